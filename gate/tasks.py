"""Sending work to the workers, by name; the database stays the truth."""

from __future__ import annotations

import logging
from contextvars import copy_context

from celery import Celery
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)

JUDGE_SUBMISSION = "workers.judge_submission"
#: Runs. Their rounds alternate between sampling and judging, so judging is no queue of its own.
ENGINE_QUEUE = "engine"
#: Short messages to others, which no run may delay.
NOTIFICATION_QUEUE = "notification"
QUEUES = (ENGINE_QUEUE, NOTIFICATION_QUEUE)
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
        try:
            # In a context of its own: the instrumentation leaves its span there when this fails.
            copy_context().run(
                self._app.send_task,
                JUDGE_SUBMISSION,
                args=[submission_id],
                queue=ENGINE_QUEUE,
                retry=True,
                retry_policy={"max_retries": 1, "interval_start": 0.2},
            )
        except OperationalError as error:
            log.warning(
                "submission %s waits in the database: %s",
                submission_id,
                error,
                extra={"submission": submission_id},
            )
            return False
        return True

    def depth(self) -> int:
        """How many submissions wait in the broker and are in no worker's hands.

        Raises:
            OperationalError: the broker cannot be reached.
        """
        with self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2)
            try:
                declared = connection.default_channel.queue_declare(ENGINE_QUEUE, passive=True)
            except connection.channel_errors:
                # No queue of that name: nothing was ever sent, or the broker was emptied.
                return 0
            waiting: int = declared.message_count
            return waiting
