"""``emgate audit``: who changed what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from gate.access.durations import since as since_when
from gate.cli.administration import administration, show_table
from gate.store.audit import AuditLog


def audit(
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Such as 24h or 2026-01-31T08:00:00Z.")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this actor did.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, such as waiver.grant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many rows.")] = 100,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line instead of a table.")
    ] = False,
) -> None:
    """Show the audit log, newest first.

    Example: emgate audit --since 7d --action waiver.grant
    """
    with administration() as database:
        when = since_when(datetime.now(UTC), since) if since else None
        rows = AuditLog(database).newest(limit, None, when, actor, action)
    if as_json:
        for row in rows:
            typer.echo(row.model_dump_json())
        return
    show_table(
        ("at", "actor", "action", "on", "status"),
        [
            (
                f"{r.at:%Y-%m-%d %H:%M:%S} UTC",
                r.actor,
                r.action,
                r.target or "-",
                str(r.status or "-"),
            )
            for r in rows
        ],
        "nothing is recorded",
    )
