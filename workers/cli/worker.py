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
            "notification (messages to others; a run on the same worker delays them)."
        ),
    ] = "engine",
    log_level: Annotated[
        LogLevel | None, typer.Option(help="Default: GATE_LOG_LEVEL, else INFO.")
    ] = None,
) -> None:
    """Run a worker: it owns one engine and judges one submission at a time.

    Example: GATE_BROKER_URL=redis://127.0.0.1:6379/0 emgate worker

    Example: emgate worker --queues notification
    """
    import os
    import socket
    import sys

    from gate.cli.app import ExitCode
    from gate.logs import install_logs
    from gate.settings import settings
    from gate.tasks import ENGINE_QUEUE, QUEUES
    from gate.tracing import start_traces

    wanted = [name.strip() for name in queues.split(",") if name.strip()]
    unknown = sorted(set(wanted) - set(QUEUES))
    if unknown or not wanted:
        known = ", ".join(QUEUES)
        typer.echo(f"emgate: --queues {queues}: the queues are {known}", err=True)
        sys.exit(ExitCode.USAGE)
    level = log_level or settings().log_level
    install_logs("emgate-worker", settings().log_format, level)
    start_traces("emgate-worker")
    from workers.celery_app import app

    runs = ENGINE_QUEUE in wanted
    app.worker_main(
        [
            # No banner, which is no record.
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={1 if runs else NOTIFIERS}",
            f"--queues={','.join(wanted)}",
            f"--hostname={'-'.join(wanted)}-{os.getpid()}@{socket.gethostname()}",
            f"--loglevel={level}",
            "--without-gossip",
            "--without-mingle",
        ]
    )
