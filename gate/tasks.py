"""Sending work to the workers, by name; the database stays the truth."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextvars import copy_context
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)

JUDGE_SUBMISSION = "workers.judge_submission"
RATE_ANSWERS = "workers.rate_answers"
#: Runs.
ENGINE_QUEUE = "engine"
#: Answers to rate, where ``GATE_JUDGING`` is ``queue``. The run that sends them waits for them.
JUDGING_QUEUE = "judging"
#: Short messages to others, which no run may delay.
NOTIFICATION_QUEUE = "notification"
QUEUES = (ENGINE_QUEUE, JUDGING_QUEUE, NOTIFICATION_QUEUE)
#: Redis gives a task to another worker after this many seconds; longer than any run. A task that
#: comes twice does no harm: a lease in the database admits one worker only.
VISIBILITY_SECONDS = 24 * 3600


def celery_app(broker_url: str) -> Celery:
    """A Celery app with the settings that long tasks need, for senders and workers alike."""
    app = Celery("emgate", broker=broker_url)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_default_queue=ENGINE_QUEUE,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        # A worker outlives a broker that is away for however long.
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_SECONDS,
            "socket_connect_timeout": 5,
            "socket_timeout": 30,
        },
    )
    return app


class TaskQueue:
    """Sends submissions to the workers."""

    def __init__(self, broker_url: str) -> None:
        self._app = celery_app(broker_url)

    def send(self, submission_id: str) -> bool:
        """Queue a submission; False when the broker cannot be reached.

        A submission that was not sent is not lost: workers look for waiting ones in the database.
        """
        return self._sent(JUDGE_SUBMISSION, ENGINE_QUEUE, submission_id)

    def send_answers(self, request: dict[str, Any], expires: float) -> bool:
        """Queue answers to be rated, to be dropped if no worker takes them within ``expires`` s.

        False when the broker cannot be reached.
        """
        return self._sent(RATE_ANSWERS, JUDGING_QUEUE, request, expires)

    def _sent(self, task: str, queue: str, argument: Any, expires: float | None = None) -> bool:
        try:
            # In a context of its own: the instrumentation leaves its span there when this fails.
            copy_context().run(
                self._app.send_task,
                task,
                args=[argument],
                queue=queue,
                expires=expires,
                retry=True,
                retry_policy={"max_retries": 1, "interval_start": 0.2},
            )
        except OperationalError as error:
            of_submission = {"submission": argument} if isinstance(argument, str) else {}
            what = of_submission.get("submission", "answers to be rated")
            log.warning("not sent to the queue %s: %s: %s", queue, what, error, extra=of_submission)
            return False
        return True

    def depth(self, queue: str = ENGINE_QUEUE) -> int:
        """How many tasks of a queue wait in the broker and are in no worker's hands.

        Raises:
            OperationalError: the broker cannot be reached.
        """
        return self.depths((queue,))[queue]

    def depths(
        self, queues: Sequence[str] = QUEUES, seconds: float | None = None
    ) -> dict[str, int]:
        """How many tasks wait in each queue.

        Args:
            queues: their names.
            seconds: how long a connection, and each answer, may take; as the settings of the app
                say without it.

        Raises:
            OperationalError: the broker cannot be reached.
        """
        options = {"socket_connect_timeout": seconds, "socket_timeout": seconds}
        with self._app.connection_for_write(
            transport_options=options if seconds is not None else {}
        ) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2)
            try:
                return {queue: _depth(connection, queue) for queue in queues}
            except connection.connection_errors as error:
                raise OperationalError(str(error)) from error


def _depth(connection: Connection, queue: str) -> int:
    with connection.channel() as channel:
        try:
            waiting: int = channel.queue_declare(queue, passive=True).message_count
        except connection.channel_errors:
            # No queue of that name: nothing was ever sent, or the broker was emptied.
            return 0
        return waiting
