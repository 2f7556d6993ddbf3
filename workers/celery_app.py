"""The Celery worker: one process, one engine, one submission at a time.

Run with the thread pool and a concurrency of one, so that the process that owns the engine is the
worker itself and still answers control commands while a submission runs.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from celery import signals
from prometheus_client import start_http_server

from checks.judgement import Judge
from gate.hooks.config import load_hooks
from gate.hooks.outbox import Outbox
from gate.settings import settings
from gate.store.database import open_database
from gate.store.judges import JudgeStore
from gate.store.submissions import SubmissionRecord, UnknownSubmissionError
from gate.store.transcripts import TranscriptRecord
from gate.tasks import JUDGE_SUBMISSION, TaskQueue, celery_app
from workers.checkpoint.workspace import remove_abandoned
from workers.engine.warm import WarmEngine
from workers.judges.choice import load_judge
from workers.lease import lease
from workers.notify.tasks import register_notification
from workers.run import Run

log = logging.getLogger(__name__)

#: How often a worker looks for submissions that wait in the database, in seconds.
SWEEP_SECONDS = 15.0

app = celery_app(settings().broker_url)
register_notification(app)
_busy = threading.Event()


@dataclass(frozen=True)
class _Parts:
    """What a worker process is made of, wired in one place."""

    owner: str
    submissions: SubmissionRecord
    engine: WarmEngine
    run: Run


@lru_cache(maxsize=1)
def _parts() -> _Parts:
    database = open_database(settings().database)
    submissions = SubmissionRecord(database, Outbox.of(load_hooks(settings().hooks_file)))
    engine = WarmEngine(settings())
    run = Run(
        settings(), submissions, TranscriptRecord(database), JudgeStore(database), engine, _judge
    )
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    return _Parts(owner, submissions, engine, run)


@lru_cache(maxsize=1)
def _judge() -> Judge:
    return load_judge(settings())


@app.task(name=JUDGE_SUBMISSION)  # type: ignore[untyped-decorator]
def judge_submission(submission_id: str) -> None:
    """Take one submission to its end, unless another worker holds it."""
    parts = _parts()
    _busy.set()
    try:
        with lease(parts.submissions, submission_id, parts.owner) as held:
            if held:
                parts.run.take(submission_id)
            else:
                log.info("submission %s is run by another worker", submission_id)
    except UnknownSubmissionError:
        log.warning("submission %s is not in the record", submission_id)
    finally:
        _busy.clear()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _log(loglevel: int | str, **_: Any) -> None:
    logging.basicConfig(
        level=loglevel, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _on_ready(**_: Any) -> None:
    remove_abandoned(settings().work_directory)
    if settings().worker_metrics_port:
        start_http_server(settings().worker_metrics_port, addr=settings().api_host)
    threading.Thread(target=_sweep, name="sweep", daemon=True).start()


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _on_shutdown(**_: Any) -> None:
    _parts().engine.stop()


def _sweep() -> None:
    """Queue again what waits in the database while this worker has nothing to do.

    An idle worker means an empty queue: what still waits then was lost with the broker or with
    another worker. Sending one twice does no harm, because the lease admits one worker only.
    """
    queue = TaskQueue(settings().broker_url)
    while True:
        if not _busy.is_set():
            for submission_id in _parts().submissions.waiting():
                queue.send(submission_id)
        time.sleep(SWEEP_SECONDS)
