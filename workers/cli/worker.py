"""``emgate worker``: runs submissions."""

from __future__ import annotations

from typing import Annotated

import typer

from gate.settings import LogLevel

#: Messages that a worker of the queue ``notification`` alone sends at once.
NOTIFIERS = 4


def worker(
    queues: Annotated[
        str,
        typer.Option(
            help="What to work on, separated by commas: engine (runs; owns an engine), "
            "judging (answers to rate, where GATE_JUDGING is queue; has the judge), "
            "notification (messages to others). Runs and ratings come one at a time, and what "
            "else is on the same worker waits for them."
        ),
    ] = "engine",
    log_level: Annotated[
        LogLevel | None, typer.Option(help="Default: GATE_LOG_LEVEL, else INFO.")
    ] = None,
) -> None:
    """Run a worker. One of runs owns one engine and judges one submission at a time.

    Exit codes: 0 stopped, 2 a queue does not exist, or the judge that judging needs cannot be
    made, 4 its metrics cannot be served.

    Example: GATE_BROKER_URL=redis://127.0.0.1:6379/0 emgate worker

    Example: emgate worker --queues judging

    Example: emgate worker --queues notification
    """
    import os
    import socket
    import sys

    from celery import signals

    from gate.cli.app import ExitCode
    from gate.counting import DIRECTORY_VARIABLE
    from gate.logs import install_logs
    from gate.settings import settings
    from gate.tasks import ENGINE_QUEUE, JUDGING_QUEUE, QUEUES
    from gate.tracing import start_traces

    wanted = [name.strip() for name in queues.split(",") if name.strip()]
    unknown = sorted(set(wanted) - set(QUEUES))
    if unknown or not wanted:
        known = ", ".join(QUEUES)
        typer.echo(f"emgate: --queues {queues}: the queues are {known}", err=True)
        sys.exit(ExitCode.USAGE)
    if {ENGINE_QUEUE, JUDGING_QUEUE} <= set(wanted):
        typer.echo(
            "emgate: --queues: a run waits for its ratings, so engine and judging need a worker "
            "each",
            err=True,
        )
        sys.exit(ExitCode.USAGE)
    if JUDGING_QUEUE in wanted:
        _require_judge()
    # A worker counts by itself, whatever it was started from.
    os.environ.pop(DIRECTORY_VARIABLE, None)
    level = log_level or settings().log_level
    install_logs("emgate-worker", settings().log_format, level)
    start_traces("emgate-worker")
    from workers.celery_app import app

    ended: list[int | None] = []
    # Celery keeps the exit code to itself when it is called and not run.
    signals.worker_shutdown.connect(lambda sender, **_: ended.append(sender.exitcode), weak=False)
    at_once = 1 if {ENGINE_QUEUE, JUDGING_QUEUE} & set(wanted) else NOTIFIERS
    app.worker_main(
        [
            # No banner, which is no record.
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={at_once}",
            f"--queues={','.join(wanted)}",
            f"--hostname={'-'.join(wanted)}-{os.getpid()}@{socket.gethostname()}",
            f"--loglevel={level}",
            "--without-gossip",
            "--without-mingle",
        ]
    )
    sys.exit(ended[-1] if ended else None)


def _require_judge() -> None:
    """Stop now, and not at the first answer, if the judge's files or its key are not there."""
    import sys

    from gate.cli.app import ExitCode
    from gate.settings import settings
    from workers.probes.finding import Health
    from workers.probes.parts import judge_here

    found = judge_here(settings())
    if found.health is Health.FAIL:
        typer.echo(f"emgate: {found.found}: {found.remedy}", err=True)
        sys.exit(ExitCode.USAGE)
