"""The demo: two real fine-tunes through the real service; one passes, one fails.

Run by ``make demo``. Starts broker, API and worker, submits both organisms through the HTTP API,
shows live progress, prints both verdicts, writes both reports, and stops what it started. It judges
by ``deploy/policies/demo.yaml``, or by the policy that ``make demo POLICY=`` names.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from gate.cli.verdict_table import notes, verdict_table
from gate.errors import GateError
from gate.settings import Device, Settings
from gate.store.database import open_database
from gate.store.submissions import SubmissionRecord
from gate.submission import State
from gate.verdict import Verdict
from workers.checkpoint.packaged import build_packaged_base
from workers.local_service import LocalService

REPOSITORY = Path(__file__).resolve().parent.parent
HOME = REPOSITORY / ".gate"
ORGANISMS = REPOSITORY / "tests" / "organisms"
REPORTS = REPOSITORY / "reports"
POLICIES = REPOSITORY / "deploy" / "policies"
EXPECTED = {"benign": "pass", "misaligned": "fail"}
POLL_SECONDS = 0.5
DEADLINE_SECONDS = 3600.0

console = Console()


def main(policy: str) -> int:
    """Judge both organisms; exit code 0 when both verdicts are the expected ones."""
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    try:
        with stage("base checkpoint"):
            base = build_packaged_base(HOME / "base" / "SmolLM2-135M-Instruct")
        settings = Settings(
            home=HOME,
            checkpoint_roots=[ORGANISMS, HOME / "base"],
            policy_directories=[POLICIES],
            api_port=0,
            worker_metrics_port=0,
            device=Device(os.environ.get("GATE_DEVICE", Device.CPU)),
        )
        with stage("service: broker, API and worker"):
            service = LocalService(settings).__enter__()
        try:
            console.print(f"  API at {service.url} (documentation under /docs)", soft_wrap=True)
            outcomes = judge_organisms(service, base, policy)
        finally:
            with stage("stopping"):
                service.stop()
                cancel_unfinished(settings)
    except (GateError, httpx.HTTPError) as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 4
    except KeyboardInterrupt:
        console.print("demo: interrupted; everything is stopped", style="yellow")
        return 130
    console.print(f"[bold]total[/] {time.monotonic() - began:.0f} s")
    if outcomes != EXPECTED:
        console.print(f"demo: expected {EXPECTED}, got {outcomes}", style="red")
        return 1
    return 0


def cancel_unfinished(settings: Settings) -> None:
    """Leave no work to the next demo, which submits its own."""
    record = SubmissionRecord(open_database(settings.database))
    for submission_id in record.waiting():
        record.move(submission_id, State.CANCELLED)


def judge_organisms(service: LocalService, base: Path, policy: str) -> dict[str, str]:
    """Submit both organisms, follow them, print verdicts, write reports."""
    outcomes = {}
    REPORTS.mkdir(exist_ok=True)
    with httpx.Client(base_url=service.url, timeout=30) as api:
        submitted = {}
        for name in EXPECTED:
            body = {
                "checkpoint": str(ORGANISMS / name),
                "base": str(base),
                "policy": policy,
                "fresh": True,
                "metadata": {"demo": name},
            }
            answer = api.post("/v1/submissions", json=body).raise_for_status()
            submitted[name] = answer.headers["Location"]
        written = []
        for name, location in submitted.items():
            submission = follow(api, name, location)
            if submission["state"] != "decided":
                raise GateError(
                    f"{name} ended as {submission['state']}: {submission['error']}; "
                    f"logs in {service.logs}"
                )
            verdict = Verdict.model_validate(api.get(f"{location}/verdict").json())
            console.print(verdict_table(name, verdict))
            for note in notes(verdict):
                console.print(f"- {note}", markup=False, soft_wrap=True)
            console.print()
            report = REPORTS / f"{name}.html"
            report.write_text(api.get(f"{location}/report").text, encoding="utf-8")
            written.append(report)
            outcomes[name] = verdict.outcome.value
    for report in written:
        console.print(f"report: {report}", soft_wrap=True)
    return outcomes


def follow(api: httpx.Client, name: str, location: str) -> dict[str, Any]:
    """Show a submission's progress until it ends; print the time of each of its stages."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task(name, total=None)
        while True:
            submission: dict[str, Any] = api.get(location).raise_for_status().json()
            progress = submission["progress"] or {"done": 0, "total": None, "what": ""}
            bars.update(
                bar,
                description=f"{name}: {submission['state']} {progress['what']}",
                completed=progress["done"],
                total=progress["total"],
            )
            if submission["state"] in {"decided", "failed", "cancelled"}:
                break
            if time.monotonic() > deadline:
                raise GateError(f"{name} did not end within {DEADLINE_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
    print_stages(name, submission["stages"])
    return submission


def print_stages(name: str, stages: list[dict[str, str]]) -> None:
    """One line per stage with its seconds."""
    from datetime import datetime

    times = [(stage["state"], datetime.fromisoformat(stage["at"])) for stage in stages]
    for (state, entered), (_, left) in pairwise(times):
        console.print(f"  {name}: {state} {(left - entered).total_seconds():.1f} s")


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Print what is being done, then how long it took."""
    began = time.monotonic()
    with console.status(name):
        yield
    console.print(f"[bold]{name}[/] {time.monotonic() - began:.1f} s")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two real fine-tunes through the real service.")
    parser.add_argument("--policy", default="demo", help="such as default, for the full battery")
    sys.exit(main(parser.parse_args().policy))
