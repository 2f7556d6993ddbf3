"""``emgate worker``: runs submissions."""

from __future__ import annotations

from typing import Annotated

import typer


def worker(
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Run a worker: it owns one engine and judges one submission at a time.

    Example: GATE_BROKER_URL=redis://127.0.0.1:6379/0 emgate worker
    """
    import os
    import socket

    from gate.tasks import ENGINE_QUEUE
    from workers.celery_app import app

    app.worker_main(
        [
            "worker",
            "--pool=threads",
            "--concurrency=1",
            f"--queues={ENGINE_QUEUE}",
            f"--hostname=engine-{os.getpid()}@{socket.gethostname()}",
            f"--loglevel={log_level}",
            "--without-gossip",
            "--without-mingle",
        ]
    )
