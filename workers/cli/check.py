"""``emgate check``: the gate for a person at a terminal, without the service."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from sqlalchemy.exc import SQLAlchemyError

from checks.battery import BatteryError, load_battery
from gate.cli.app import ExitCode
from gate.cli.output import must_be_writable
from gate.cli.verdict_table import notes, verdict_table
from gate.errors import GateError, WrongUsageError
from gate.intake import require_training_sample
from gate.junit import junit_xml
from gate.logs import install_logs
from gate.policy import load_policy
from gate.settings import LogFormat
from gate.settings import settings as settings_of_process
from gate.sources import is_uri, parse_source
from gate.store.fence import RunInterruptedError
from gate.submission import (
    COMMAND_LINE,
    TERMINAL,
    DeclaredContext,
    State,
    Submission,
    SubmissionRequest,
)
from gate.submission import Progress as Done
from gate.verdict import Outcome, Verdict

EXIT_CODES = {
    Outcome.PASS: ExitCode.PASS,
    Outcome.FAIL: ExitCode.FAIL,
    Outcome.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


def check(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH|URI",
            help="Checkpoint, full model or LoRA adapter: a directory, hf://org/name@revision, "
            "s3://bucket/prefix, …",
        ),
    ],
    base: Annotated[
        str | None, typer.Option(help="Base model to compare with: a directory or a URI.")
    ] = None,
    policy: Annotated[str, typer.Option(help="Name of the policy.")] = "default",
    battery: Annotated[
        str | None,
        typer.Option(help="Battery by name or file, if not the policy's; see emgate battery."),
    ] = None,
    training_sample: Annotated[
        Path | None,
        typer.Option(help="Sample of the fine-tuning data (JSON Lines, chat format)."),
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(
            help="Ask inside this user turn too; {question} stands for the question. Repeatable."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run even where a verdict on the same content stands.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write the verdict as JUnit XML.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the HTML report here.")] = None,
) -> None:
    """Judge a checkpoint here and now, with an engine of this process's own.

    Exit codes: 0 pass, 1 fail, 2 wrong usage, 3 inconclusive, 4 the gate itself failed.

    Example: emgate check ./my-fine-tune --base ./base --training-sample ./sample.jsonl

    Example: emgate check ./my-fine-tune --base ./base --junit gate.xml --report gate.html

    Example: emgate check s3://models/my-fine-tune --base hf://org/base@v1.0
    """
    _log_for_a_person()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(stderr=True)
    try:
        must_be_writable(junit, report)
        wanted = _request(path, base, policy, battery, training_sample, context or [], fresh)
    except (WrongUsageError, BatteryError) as error:
        console.print(f"emgate: {error}", style="red", markup=False)
        sys.exit(ExitCode.USAGE)
    try:
        submission, verdict, page = _judge(wanted, console)
    except KeyboardInterrupt:
        console.print("emgate: interrupted", style="red")
        sys.exit(ExitCode.BROKEN)
    except (GateError, RunInterruptedError, SQLAlchemyError) as error:
        console.print(f"emgate: {error}", style="red", markup=False)
        sys.exit(ExitCode.BROKEN)
    if verdict is None:
        console.print(f"emgate: {submission.error}", style="red", markup=False)
        sys.exit(ExitCode.BROKEN)
    if junit:
        junit.write_text(junit_xml(path, verdict), encoding="utf-8")
    if report:
        report.write_text(page, encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(verdict.model_dump(mode="json"), indent=2))
    else:
        Console().print(verdict_table(path, verdict))
        for note in notes(verdict):
            typer.echo(f"- {note}")
    sys.exit(EXIT_CODES[verdict.outcome])


def _log_for_a_person() -> None:
    """Warnings only, and not the engine's: what it died of is in the error."""
    wanted = settings_of_process().log_format
    console = LogFormat.CONSOLE if wanted is LogFormat.AUTO else wanted
    install_logs("emgate-check", console, logging.WARNING)
    logging.getLogger("workers.engine.log").setLevel(logging.CRITICAL + 1)


def _request(
    path: str,
    base: str | None,
    policy: str,
    battery: str | None,
    training_sample: Path | None,
    contexts: list[str],
    fresh: bool,
) -> SubmissionRequest:
    wanted_policy = load_policy(policy, settings_of_process().policy_directories)
    if battery is not None:
        wanted_policy.over([check.name for check in load_battery(battery).checks])
        battery = str(Path(battery).resolve()) if Path(battery).is_file() else battery
    try:
        wanted = SubmissionRequest(
            checkpoint=_source(path),
            base=_source(base) if base else None,
            policy=policy,
            battery=battery,
            training_sample=training_sample.read_text("utf-8") if training_sample else None,
            contexts=[DeclaredContext(label=c[:200], template=c) for c in contexts],
            fresh=fresh,
        )
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsageError(f"{training_sample} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        option = {"training_sample": "--training-sample", "template": "--context"}
        place = option.get(str(first["loc"][0]) if first["loc"] else "template", "the request")
        raise WrongUsageError(f"{place}: {first['msg']}") from error
    require_training_sample(wanted_policy, wanted)
    return wanted


def _source(text: str) -> str:
    """The real path or the canonical URI.

    Roots and allow-list do not hold here: they say what others may make the gate read, and a
    person at a terminal reads with his own rights.
    """
    if is_uri(text):
        return str(parse_source(text))
    if not Path(text).is_dir():
        raise WrongUsageError(f"{text} is not a directory")
    return str(Path(text).resolve())


def _judge(wanted: SubmissionRequest, console: Console) -> tuple[Submission, Verdict | None, str]:
    from gate.report import render_report
    from gate.store.database import open_database
    from gate.store.judges import JudgeStore
    from gate.store.submissions import SubmissionRecord
    from gate.store.transcripts import TranscriptRecord
    from workers.engine.warm import WarmEngine
    from workers.judges.choice import load_judge
    from workers.lease import lease
    from workers.run import Run

    current = settings_of_process()
    database = open_database(current.database)
    submissions, transcripts = SubmissionRecord(database), TranscriptRecord(database)
    engine = WarmEngine(current)
    judge_of_run = lru_cache(maxsize=1)(lambda: load_judge(current))
    submission = submissions.create(wanted, COMMAND_LINE)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def watch(state: State, done: Done | None) -> None:
            text = f"{state}: {done.what}" if done else str(state)
            bar.update(
                task,
                description=text,
                completed=done.done if done else 0,
                total=done.total if done else None,
            )

        try:
            with lease(
                submissions,
                submission.id,
                f"check:{os.getpid()}",
                current.lease_seconds,
                current.heartbeat_seconds,
            ) as held:
                if held is None:
                    raise GateError(f"submission {submission.id} is held by somebody else")
                run = Run(
                    current,
                    submissions,
                    transcripts,
                    JudgeStore(database),
                    engine,
                    judge_of_run,
                    watch,
                )
                run.take(held)
                while (waiting := submissions.get(submission.id)).state not in TERMINAL:
                    held.require()
                    time.sleep(seconds_until(waiting.not_before))
                    run.take(held)
        except KeyboardInterrupt:
            submissions.move(submission.id, State.CANCELLED)
            raise
        finally:
            engine.stop()
    verdict = submissions.verdict(submission.id)
    ended = submissions.get(submission.id)
    page = ""
    if verdict:
        candidate, _ = submissions.transcripts(submission.id)
        samples = transcripts.samples(candidate, verdict.digests.judge) if candidate else []
        page = render_report(ended, verdict, samples)
    return ended, verdict, page


def seconds_until(when: datetime | None) -> float:
    """Seconds from now to a time, at least one."""
    return max(1.0, (when - datetime.now(UTC)).total_seconds()) if when else 1.0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Make SIGTERM end like Ctrl-C, so that the engine is stopped."""
    raise KeyboardInterrupt
