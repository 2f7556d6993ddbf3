"""The Celery worker: one process; with the queue of runs one engine, one submission at a time.

Run with the thread pool and a concurrency of one, so that the process that owns the engine is the
worker itself and still answers control commands while a submission runs.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from celery import signals
from celery.apps import worker as celery_worker
from celery.concurrency.prefork import TaskPool as ForkingPool
from sqlalchemy import Engine

from checks.judgement import Judge
from gate.cli.app import ExitCode
from gate.errors import GateError
from gate.hooks.config import load_hooks
from gate.hooks.outbox import Outbox
from gate.logs import install_logs, line_outside_of_log
from gate.settings import Judging, settings
from gate.store.database import open_database
from gate.store.judges import JudgeStore
from gate.store.retention import prune
from gate.store.submissions import SubmissionRecord
from gate.store.transcripts import TranscriptRecord
from gate.tasks import ENGINE_QUEUE, JUDGE_SUBMISSION, JUDGING_QUEUE, TaskQueue, celery_app
from workers import periodic
from workers.checkpoint.workspace import remove_abandoned
from workers.engine.warm import WarmEngine
from workers.judge_queue.queued import queued_judge
from workers.judge_queue.tasks import JudgingQueue, register_judging
from workers.judges.choice import load_judge
from workers.metrics_page import metrics_of_worker, serve_metrics
from workers.notify.tasks import register_notification
from workers.periodic import Job
from workers.run import Run
from workers.taking import Taking, sweep

log = logging.getLogger(__name__)

#: How often old samples are looked for, in seconds.
PRUNE_SECONDS = 3600.0

app = celery_app(settings().broker_url)
register_notification(app)
register_judging(app)


@dataclass(frozen=True)
class _Parts:
    """What a worker process is made of, wired in one place."""

    database: Engine
    submissions: SubmissionRecord
    engine: WarmEngine
    taking: Taking
    queue: TaskQueue


@lru_cache(maxsize=1)
def _parts() -> _Parts:
    database = open_database(settings().database)
    submissions = SubmissionRecord(database, Outbox.of(load_hooks(settings().hooks_file)))
    engine = WarmEngine(settings())
    run = Run(
        settings(), submissions, TranscriptRecord(database), JudgeStore(database), engine, _judge
    )
    worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    taking = Taking(settings(), submissions, run, worker)
    return _Parts(database, submissions, engine, taking, TaskQueue(settings().broker_url))


@lru_cache(maxsize=1)
def _judge() -> Judge:
    if settings().judging is Judging.QUEUE:
        return queued_judge(settings(), JudgingQueue(_parts().queue))
    return load_judge(settings())


@app.task(name=JUDGE_SUBMISSION)  # type: ignore[untyped-decorator]
def judge_submission(submission_id: str) -> None:
    """Take the submission that has waited longest to its end; the id is for logs only."""
    taken = _parts().taking.take_next()
    of_it = {"submission": taken} if taken else {}
    log.info("called for submission %s, took %s", submission_id, taken, extra=of_it)


def _jobs() -> list[Job]:
    """What every worker does beside its runs; further jobs are one line each."""
    parts = _parts()
    return [
        Job("sweep", settings().sweep_seconds, lambda: sweep(parts.submissions, parts.queue)),
        Job("prune", PRUNE_SECONDS, lambda: prune(parts.database, settings())),
        Job("forget keys", PRUNE_SECONDS, lambda: _forget_keys(parts.submissions)),
    ]


def _forget_keys(submissions: SubmissionRecord) -> None:
    """Remove the idempotency keys whose time is over."""
    submissions.keys.forget_before(
        datetime.now(UTC) - timedelta(seconds=settings().idempotency_seconds)
    )


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _log(loglevel: int | str, **_: Any) -> None:
    install_logs("emgate-worker", settings().log_format, loglevel)
    # Called in signal handlers, where a log must not be locked; it writes past it.
    celery_worker.safe_say = _say


def _say(words: str, _stream: object = None) -> None:
    log_format, at_terminal = settings().log_format, sys.stderr.isatty()
    os.write(2, line_outside_of_log("emgate-worker", log_format, at_terminal, words))


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _on_ready(sender: Any, **_: Any) -> None:
    if isinstance(sender.pool, ForkingPool):
        log.error("run the worker with --pool=threads: engine and metrics are of one process")
        raise SystemExit(ExitCode.USAGE)
    queues = set(sender.app.amqp.queues.consume_from)
    if settings().worker_metrics_port:
        _serve_metrics(_parts().engine if ENGINE_QUEUE in queues else None)
    if queues == {JUDGING_QUEUE}:
        # Neither the record nor what runs leave behind is any business of this worker.
        return
    remove_abandoned(settings().work_directory)
    periodic.start(_jobs())


def _serve_metrics(engine: WarmEngine | None) -> None:
    """Serve the metrics of this process.

    Raises:
        SystemExit: they cannot be served. Celery ends the worker; any other error it would log
            and go on without.
    """
    try:
        serve_metrics(settings(), metrics_of_worker(settings(), engine))
    except GateError as error:
        log.error("%s", error)
        raise SystemExit(ExitCode.BROKEN) from error


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _on_shutting_down(**_: Any) -> None:
    if _parts.cache_info().currsize:
        _parts().taking.stop()


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _on_shutdown(**_: Any) -> None:
    if _parts.cache_info().currsize:
        _parts().engine.stop()
