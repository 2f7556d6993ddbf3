"""What a command does with a submission that has ended: table, files, exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from gate.cli.app import ExitCode
from gate.cli.output import EXIT_CODES, console, print_json, printable
from gate.client.api import GateClient, view_of
from gate.errors import GateError


def exit_code(verdict: Mapping[str, Any], accept_waiver: bool) -> ExitCode:
    """The exit code of a verdict; what the client does not know is never a pass."""
    if accept_waiver and verdict.get("waivers") and verdict.get("released") is True:
        return ExitCode.PASS
    return EXIT_CODES.get(str(verdict.get("outcome")), ExitCode.BROKEN)


def end_with_verdict(
    client: GateClient,
    submission: Mapping[str, Any],
    *,
    as_json: bool,
    junit: Path | None,
    report: Path | None,
    accept_waiver: bool = False,
) -> None:
    """Print the verdict, write the files and end the command with the verdict's exit code.

    Raises:
        GateError: the submission ended without a verdict.
    """
    view = view_of(submission)
    if view.state != "decided":
        if as_json:
            print_json({"submission": submission, "verdict": None})
        reason = f": {view.error}" if view.error else ""
        raise GateError(f"submission {view.id} was {view.state}{reason}; there is no verdict")
    verdict = client.verdict(view.id)
    if as_json:
        print_json({"submission": submission, "verdict": verdict})
    else:
        _show(view.checkpoint, verdict)
        if view.standing_since:
            typer.echo(f"- the verdict is that of submission {printable(view.standing_since)}")
    for file, part in ((junit, "verdict.junit.xml"), (report, "report")):
        if file:
            file.write_text(client.document(view.id, part), encoding="utf-8")
    sys.exit(exit_code(verdict, accept_waiver))


def _show(name: str, content: Mapping[str, Any]) -> None:
    # Here, because only this loads the statistics.
    from gate.cli.verdict_table import notes, verdict_table
    from gate.verdict import Verdict

    try:
        verdict = Verdict.model_validate(content)
    except ValidationError as error:
        raise GateError("the verdict cannot be shown: is the gate of another version?") from error
    console().print(verdict_table(printable(name), verdict))
    for note in notes(verdict):
        typer.echo(f"- {printable(note)}")
    for waiver in content.get("waivers") or []:
        until = printable(str(waiver.get("expires_at")))
        typer.echo(f"- waived until {until}: {printable(str(waiver.get('reason')))}")
