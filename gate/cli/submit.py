"""``emgate submit``: hands a checkpoint to a gate and, if asked, waits for the verdict."""

from __future__ import annotations

import signal
import sys
import uuid
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from gate.cli.app import ExitCode
from gate.cli.ending import end_with_verdict
from gate.cli.output import console, fail, gate_client, must_be_writable, print_json, printable
from gate.client.api import GateClient, view_of
from gate.client.following import Follower
from gate.client.packing import packed, size_of
from gate.errors import WrongUsageError


def submit(
    checkpoint: Annotated[str, typer.Argument(metavar="PATH|URI", help="Checkpoint to judge.")],
    base: Annotated[str | None, typer.Option(help="Base model to compare with.")] = None,
    policy: Annotated[str, typer.Option(help="Name of the policy.")] = "default",
    battery: Annotated[str | None, typer.Option(help="Name of a battery.")] = None,
    training_sample: Annotated[
        Path | None, typer.Option(help="Sample of the fine-tuning data (JSON Lines).")
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(help="Ask inside this user turn too, around {question}. Repeatable."),
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="For your records. Repeatable.")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Run even where a verdict stands.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key makes the same submission; default: random.")
    ] = None,
    upload: Annotated[bool, typer.Option(help="Send the directory PATH to the gate.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the verdict.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait.")] = None,
    cancel_on_interrupt: Annotated[
        bool, typer.Option(help="Cancel when Ctrl-C or SIGTERM ends the wait.")
    ] = False,
    accept_waiver: Annotated[
        bool, typer.Option(help="Exit with 0 where a waiver releases the checkpoint.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write the verdict as JUnit XML.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the HTML report.")] = None,
) -> None:
    """Submit a checkpoint to the gate at GATE_URL; with --wait, end with its verdict.

    Exit codes: 0 pass (or submitted), 1 fail, 2 wrong usage or refused, 3 inconclusive,
    4 the gate failed, is unreachable, or did not end in time.

    Example: emgate submit /checkpoints/tuned --base /checkpoints/base --wait --junit gate.xml

    Example: emgate submit ./tuned --upload --metadata git_sha=4f2a9c1 --wait --timeout 3600
    """
    with gate_client(as_json) as client:
        if not wait and (junit or report or timeout is not None or cancel_on_interrupt):
            raise WrongUsageError("--junit, --report, --timeout and --cancel… go with --wait")
        must_be_writable(junit, report)
        request = {
            "base": base and _absolute(base),
            "policy": policy,
            "battery": battery,
            "training_sample": _text(training_sample),
            "contexts": [{"label": c[:200], "template": c} for c in context or []],
            "metadata": dict(map(_pair, metadata or [])),
            "fresh": fresh,
        }
        place = _send(client, Path(checkpoint)) if upload else _absolute(checkpoint)
        key = idempotency_key or uuid.uuid4().hex
        try:
            submission = client.submit({"checkpoint": place, **request}, key)
        except KeyboardInterrupt:
            message = f"interrupted; it may have arrived: --idempotency-key {key} finds it"
            fail("interrupted", message, ExitCode.BROKEN, as_json)
        submission_id = view_of(submission).id
        if not wait:
            if as_json:
                print_json(submission)
            else:
                typer.echo(submission_id)
            return
        try:
            signal.signal(signal.SIGTERM, _interrupt)
            if not as_json:
                typer.echo(f"submission {submission_id}", err=True)
            ended = _follow(client, submission_id, timeout)
        except KeyboardInterrupt:
            _interrupted(client, submission_id, cancel_on_interrupt, as_json)
        end_with_verdict(
            client,
            ended,
            as_json=as_json,
            junit=junit,
            report=report,
            accept_waiver=accept_waiver,
        )


def _absolute(place: str) -> str:
    """A path that exists here by its full name; what the gate alone knows stays as it is."""
    path = Path(place)
    return str(path.resolve()) if "://" not in place and path.exists() else place


def _text(file: Path | None) -> str | None:
    try:
        return file.read_text(encoding="utf-8") if file else None
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsageError(f"{file} cannot be read: {error}") from error


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise WrongUsageError(f"--metadata: '{text}' is not KEY=VALUE")
    return key, value


def _send(client: GateClient, directory: Path) -> str:
    """Pack and upload a directory with a bar for each; returns the URI to submit."""
    if not directory.is_dir():
        raise WrongUsageError(f"{directory} is not a directory")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    out = console(stderr=True)
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bars:
        packing = bars.add_task("packing", total=size_of(directory))
        with packed(directory, lambda done: bars.update(packing, completed=done)) as archive:
            sending = bars.add_task("sending", total=archive.path.stat().st_size)
            return client.upload(
                archive.path, archive.sha256, lambda done: bars.update(sending, completed=done)
            )


def _follow(client: GateClient, submission_id: str, timeout: float | None) -> dict[str, Any]:
    """Show the progress on a terminal; returns the submission when it has ended."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    out = console(stderr=True)
    last: dict[str, Any] = {}
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bars:
        bar = bars.add_task("queued", total=None)
        for last in Follower(client, submission_id, timeout).views():
            view = view_of(last)
            done = view.progress
            bars.update(
                bar,
                description=printable(f"{view.state} {done.what if done else ''}"),
                completed=done.done if done else 0,
                total=done.total if done else None,
            )
    return last


def _interrupted(client: GateClient, submission_id: str, cancel: bool, as_json: bool) -> None:
    if cancel:
        client.cancel(submission_id)
        fail("interrupted", f"submission {submission_id} cancelled", ExitCode.BROKEN, as_json)
    message = (
        f"submission {submission_id} goes on: emgate status {submission_id}, "
        f"or emgate cancel {submission_id}"
    )
    fail("interrupted", message, ExitCode.BROKEN, as_json)
    sys.exit(ExitCode.BROKEN)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Make SIGTERM end like Ctrl-C."""
    raise KeyboardInterrupt
