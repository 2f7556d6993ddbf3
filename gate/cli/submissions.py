"""``emgate status``, ``list``, ``cancel``, ``retry``, ``verdict`` and ``samples``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gate.cli.ending import end_with_verdict
from gate.cli.output import gate_client, must_be_writable, print_json, show_table
from gate.client.api import view_of
from gate.errors import WrongUsageError
from gate.submission import State

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the submission.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")]


class Outcome(StrEnum):
    """Outcomes to list by."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Role(StrEnum):
    """Whose answers to show."""

    CANDIDATE = "candidate"
    BASELINE = "baseline"


def status(submission_id: Id, as_json: AsJson = False) -> None:
    """Show where a submission is, and when it entered each state.

    Example: emgate status 0198c1f2 --json
    """
    with gate_client(as_json) as client:
        submission = client.submission(submission_id)
        if as_json:
            print_json(submission)
        else:
            _show(submission)


def list_(
    state: Annotated[State | None, typer.Option(help="In this state only.")] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="With this outcome only.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Of this checkpoint only.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="With this metadata. Repeatable.")
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List submissions, newest first.

    Example: emgate list --state decided --outcome fail --metadata git_sha=4f2a9c1
    """
    with gate_client(as_json) as client:
        filters = {
            "state": state and state.value,
            "outcome": outcome and outcome.value,
            "checkpoint": checkpoint,
            "metadata": [_filter(pair) for pair in metadata or []],
        }
        found = list(client.submissions(filters, limit))
        if as_json:
            print_json({"items": found})
            return
        rows = [
            (v.id, v.state, v.outcome or "-", f"{v.created_at:%Y-%m-%d %H:%M}", v.checkpoint)
            for v in map(view_of, found)
        ]
        show_table(("id", "state", "outcome", "submitted (UTC)", "checkpoint"), rows)


def cancel(submission_id: Id, as_json: AsJson = False) -> None:
    """Cancel a submission that has not ended; its engine stops.

    Example: emgate cancel 0198c1f2
    """
    with gate_client(as_json) as client:
        submission = client.cancel(submission_id)
        if as_json:
            print_json(submission)
        else:
            _show(submission)


def retry(submission_id: Id, as_json: AsJson = False) -> None:
    """Submit the same request again and print the id of the new submission.

    Example: emgate retry 0198c1f2
    """
    with gate_client(as_json) as client:
        submission = client.retry(submission_id)
        if as_json:
            print_json(submission)
        else:
            typer.echo(view_of(submission).id)


def verdict(
    submission_id: Id,
    as_json: AsJson = False,
    junit: Annotated[Path | None, typer.Option(help="Write it as JUnit XML.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the HTML report.")] = None,
    accept_waiver: Annotated[
        bool, typer.Option(help="Exit with 0 where a waiver releases the checkpoint.")
    ] = False,
) -> None:
    """Show the verdict of a submission and exit as it says.

    Exit codes: 0 pass, 1 fail, 2 no such submission or not ended, 3 inconclusive, 4 no verdict.

    Example: emgate verdict 0198c1f2 --junit gate.xml --report gate.html
    """
    with gate_client(as_json) as client:
        must_be_writable(junit, report)
        submission = client.submission(submission_id)
        if not view_of(submission).ended:
            state = submission["state"]
            raise WrongUsageError(f"submission {submission_id} has not ended: it is {state}")
        end_with_verdict(
            client,
            submission,
            as_json=as_json,
            junit=junit,
            report=report,
            accept_waiver=accept_waiver,
        )


def samples(
    submission_id: Id,
    check: Annotated[str | None, typer.Option(help="Of this check only.")] = None,
    label: Annotated[str | None, typer.Option(help="With this label only.")] = None,
    role: Annotated[Role | None, typer.Option(help="Of the candidate or of its base.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Show what the model said, with the judge's labels.

    Example: emgate samples 0198c1f2 --check free-form --label misaligned
    """
    with gate_client(as_json) as client:
        filters = {"check": check, "label": label, "role": role and role.value}
        found = list(client.samples(submission_id, filters, limit))
        if as_json:
            print_json({"items": found})
            return
        names = ("check", "label", "prompt_id", "text")
        rows = [[_cell(sample, name) for name in names] for sample in found]
        show_table(("check", "label", "prompt", "answer"), rows)


def _cell(sample: dict[str, Any], name: str) -> str:
    value = sample.get(name)
    return "-" if value is None else str(value)


def _filter(pair: str) -> str:
    key, equals, value = pair.partition("=")
    if not key or not equals:
        raise WrongUsageError(f"--metadata: '{pair}' is not KEY=VALUE")
    return f"{key}:{value}"


def _show(submission: dict[str, Any]) -> None:
    view = view_of(submission)
    rows = [("submission", view.id), ("state", view.state), ("outcome", view.outcome or "-")]
    if view.error:
        rows.append(("error", view.error))
    if view.standing_since:
        rows.append(("the verdict is that of", view.standing_since))
    rows += [("checkpoint", view.checkpoint), ("base", view.base or "-"), ("policy", view.policy)]
    if view.progress:
        done = view.progress
        rows.append(("progress", f"{done.done}/{done.total} {done.what}"))
    rows += [(key, value) for key, value in view.metadata.items()]
    rows += [(stage.state, f"{stage.at:%Y-%m-%d %H:%M:%S} UTC") for stage in view.stages]
    show_table(("", ""), rows)
