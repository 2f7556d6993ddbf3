"""The Celery side of judging: one task of the queue ``judging``, and how requests get there."""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from functools import lru_cache
from typing import Any

from celery import Celery
from pydantic import ValidationError

from checks.judgement import Judge
from gate.settings import settings
from gate.tasks import JUDGING_QUEUE, RATE_ANSWERS, TaskQueue
from workers.judge_queue.answering import Desk
from workers.judge_queue.messages import Asked
from workers.judge_queue.queued import mailbox_of
from workers.judges.choice import load_judge

log = logging.getLogger(__name__)

_loading = threading.Lock()


class JudgingQueue:
    """Sends requests to the judging workers through the broker."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    def ask(self, request: Asked, expires: float) -> bool:
        """Send a request, to be forgotten after so many seconds; False if it was not taken."""
        return self._queue.send_answers(request.model_dump(mode="json"), expires)

    def waiting(self) -> int:
        """How many requests wait that no worker has taken.

        Raises:
            OperationalError: the broker cannot be reached.
        """
        return self._queue.depth(JUDGING_QUEUE)


def register_judging(app: Celery) -> None:
    """Add the task to the app. It needs neither database nor engine, and loads the judge late."""

    @app.task(name=RATE_ANSWERS, queue=JUDGING_QUEUE)  # type: ignore[untyped-decorator]
    def rate_answers(request: Any) -> None:
        try:
            asked = Asked.model_validate(request)
        except ValidationError as error:
            log.error("a request that is none is dropped: %s", error.errors(include_input=False))
            return
        _desk().take(asked)


@lru_cache(maxsize=1)
def _desk() -> Desk:
    now = settings()
    return Desk(
        mailbox_of(now),
        _judge,
        f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}",
        now.lease_seconds,
        now.heartbeat_seconds,
        now.judging_wait_seconds,
    )


def _judge() -> Judge:
    with _loading:
        return _loaded_judge()


@lru_cache(maxsize=1)
def _loaded_judge() -> Judge:
    return load_judge(settings())
