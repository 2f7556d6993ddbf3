"""``emgate worker``: runs submissions."""

from __future__ import annotations

from typing import Annotated

import typer

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
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Run a worker: it owns one engine and judges one submission at a time.

    Exit codes: 0 stopped, 2 wrong usage, 4 its metrics cannot be served.

    Example: GATE_BROKER_URL=redis://127.0.0.1:6379/0 emgate worker

    Example: emgate worker --queues notification
    """
    import os
    import socket
    import sys

    from celery import signals

    from gate.cli.app import ExitCode
    from gate.tasks import ENGINE_QUEUE, QUEUES

    wanted = [name.strip() for name in queues.split(",") if name.strip()]
    unknown = sorted(set(wanted) - set(QUEUES))
    if unknown or not wanted:
        known = ", ".join(QUEUES)
        typer.echo(f"emgate: --queues {queues}: the queues are {known}", err=True)
        sys.exit(ExitCode.USAGE)
    from workers.celery_app import app

    ended: list[int | None] = []
    # Celery keeps the exit code to itself when it is called and not run.
    signals.worker_shutdown.connect(lambda sender, **_: ended.append(sender.exitcode), weak=False)
    runs = ENGINE_QUEUE in wanted
    app.worker_main(
        [
            "worker",
            "--pool=threads",
            f"--concurrency={1 if runs else NOTIFIERS}",
            f"--queues={','.join(wanted)}",
            f"--hostname={'-'.join(wanted)}-{os.getpid()}@{socket.gethostname()}",
            f"--loglevel={log_level}",
            "--without-gossip",
            "--without-mingle",
        ]
    )
    sys.exit(ended[-1] if ended else None)
