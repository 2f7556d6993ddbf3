"""``emgate waivers``: release in spite of a verdict, on the record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import ValidationError

from gate.access.durations import after
from gate.access.waivers import REASON_MAX, REASON_MIN, Waiver, WaiverRequest, WaiverState
from gate.cli.administration import administration, moment, person, show_json, show_table
from gate.errors import WrongUsageError
from gate.settings import settings
from gate.store.submissions import UnknownSubmissionError
from gate.store.waivers import WaiverStore

waivers = typer.Typer(
    help="Grant, list and revoke waivers. Works on the database of this installation.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@waivers.command()
def grant(
    submission: Annotated[str, typer.Argument(metavar="SUBMISSION")],
    reason: Annotated[str, typer.Option(help="Why it is released all the same.")],
    expires: Annotated[str, typer.Option(metavar="DURATION", help="Such as 7d, 12h or 2w.")],
    as_json: AsJson = False,
) -> None:
    """Release a checkpoint in spite of a fail or inconclusive. The verdict stays what it is.

    Example: emgate waivers grant sub_4f2a --reason "accepted for the pilot, SEC-41" --expires 7d
    """
    with administration() as database:
        until = after(datetime.now(UTC), expires)
        try:
            wanted = WaiverRequest(reason=reason, expires_at=until)
        except ValidationError as error:
            raise WrongUsageError(
                f"a reason has {REASON_MIN} to {REASON_MAX} characters, blanks around it apart"
            ) from error
        try:
            days_max = settings().waiver_days_max
            made = WaiverStore(database).grant(submission, wanted, person(), days_max, audited=True)
        except UnknownSubmissionError as error:
            raise WrongUsageError(f"there is no submission '{submission}'") from error
    if as_json:
        show_json(_document(made))
    else:
        until_text = moment(made.expires_at)
        typer.echo(f"waiver {made.id} releases {made.submission_id} until {until_text}")


@waivers.command("list")
def list_(
    submission: Annotated[
        str | None, typer.Argument(metavar="[SUBMISSION]", help="Only those of this submission.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Those that ended, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the waivers in force, or with --all every one that was granted."""
    now = datetime.now(UTC)
    with administration() as database:
        store = WaiverStore(database)
        found = store.of(submission) if submission else store.all()
    shown = [w for w in found if every or w.state(now) is WaiverState.ACTIVE]
    if as_json:
        show_json([_document(waiver) for waiver in shown])
        return
    columns = ("waiver", "submission", "state", "by", "granted", "expires", "reason")
    rows = [
        (
            waiver.id,
            waiver.submission_id,
            waiver.state(now).value,
            waiver.granted_by,
            moment(waiver.created_at),
            moment(waiver.expires_at),
            waiver.reason,
        )
        for waiver in shown
    ]
    show_table(columns, rows, "no waivers" if every else "no waivers in force")


@waivers.command()
def revoke(
    waiver: Annotated[str, typer.Argument(metavar="WAIVER", help="From emgate waivers list.")],
    as_json: AsJson = False,
) -> None:
    """End a waiver; it stays in the record.

    Example: emgate waivers revoke wav_77de
    """
    with administration() as database:
        ended = WaiverStore(database).revoke(waiver, person(), audited=True)
    if as_json:
        show_json(_document(ended))
    else:
        typer.echo(f"waiver {ended.id} is revoked since {moment(ended.revoked_at)}")


def _document(waiver: Waiver) -> dict[str, object]:
    return waiver.model_dump(mode="json") | {"status": waiver.state(datetime.now(UTC)).value}
