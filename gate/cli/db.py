"""``emgate db``: the tables of the record, copies of them, and how long samples are kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from sqlalchemy.exc import DBAPIError

from gate.cli.app import ExitCode
from gate.errors import GateError
from gate.settings import settings

db = typer.Typer(help="Upgrade, inspect, copy and prune the database.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@db.command()
def upgrade() -> None:
    """Make the tables of a new database, or bring those of an older version up to date.

    Stop API and workers and make a backup before. It is one transaction: when it fails or is
    killed, the database is as it was. Exit codes: 0 up to date, 4 it could not be done.

    Example: GATE_DATABASE_URL=postgresql://gate@db/gate emgate db upgrade
    """
    from gate.store import schema
    from gate.store.database import connect

    try:
        engine = connect(settings().database)
        before = schema.revision(engine)
        changed = schema.upgrade(engine)
    except (GateError, DBAPIError) as error:
        _stop(error)
    told = f"upgraded from {before or 'nothing'} to" if changed else "is already at"
    typer.echo(f"{_shown()} {told} {schema.NEWEST}")


@db.command()
def status(as_json: AsJson = False) -> None:
    """Say which version the database's tables have, and which this em-gate needs.

    Exit codes: 0 they agree, 1 an upgrade is needed, 4 the database cannot be used.

    Example: emgate db status --json
    """
    from gate.store import schema
    from gate.store.database import connect

    try:
        engine = connect(settings().database)
        standing, found = schema.standing(engine), schema.revision(engine)
    except (GateError, DBAPIError) as error:
        _stop(error)
    if as_json:
        content = {
            "database": _shown(),
            "standing": standing.value,
            "revision": found,
            "needed": schema.NEWEST,
        }
        typer.echo(json.dumps(content, indent=2))
    else:
        typer.echo(f"{_shown()}: {standing}, at {found or 'nothing'}, needs {schema.NEWEST}")
    if standing in {schema.Standing.NEW, schema.Standing.OLDER}:
        sys.exit(ExitCode.FAIL)
    if standing is not schema.Standing.CURRENT:
        sys.exit(ExitCode.BROKEN)


@db.command()
def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete samples that are older than their policy or GATE_SAMPLE_RETENTION_DAYS allows.

    Workers do so by themselves, about once an hour. Verdicts stay, and baselines that a submission
    may still need. Exit codes: 0 done, 4 the database cannot be used.

    Example: GATE_SAMPLE_RETENTION_DAYS=90 emgate db prune --dry-run
    """
    from gate.store.database import open_database
    from gate.store.retention import prune as prune_samples

    try:
        pruned = prune_samples(open_database(settings().database), settings(), dry_run)
    except (GateError, DBAPIError) as error:
        _stop(error)
    if as_json:
        content = {
            "samples": pruned.samples,
            "transcripts": pruned.transcripts,
            "dry_run": dry_run,
        }
        typer.echo(json.dumps(content, indent=2))
        return
    verb = "would be deleted" if dry_run else "deleted"
    typer.echo(f"{pruned.samples} samples of {pruned.transcripts} transcripts {verb}")


@db.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist.")],
) -> None:
    """Copy an SQLite database to FILE while API and workers go on; the copy is of one moment.

    To restore, stop everything and put the file in the place of the database (gate.db in
    GATE_HOME). For PostgreSQL it names the command of PostgreSQL's own. Exit codes: 0 done, 4 it
    could not be done.

    Example: emgate db backup /backups/gate-$(date +%F).db
    """
    from gate.store.backup import back_up

    try:
        size = back_up(settings().database, target)
    except GateError as error:
        _stop(error)
    typer.echo(f"{target}: {size / 2**20:.1f} MiB, checked")


def _shown() -> str:
    from sqlalchemy.engine import make_url

    return make_url(settings().database).render_as_string(hide_password=True)


def _stop(error: Exception) -> NoReturn:
    words = " ".join(str(getattr(error, "orig", None) or error).split())
    typer.echo(f"emgate: {words}", err=True)
    sys.exit(ExitCode.BROKEN)
