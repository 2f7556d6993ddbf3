"""Sending work to the workers, by name; the database stays the truth."""

from __future__ import annotations

import logging

from celery import Celery
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)

JUDGE_SUBMISSION = "workers.judge_submission"
ENGINE_QUEUE = "engine"
#: Redis gives a task to another worker after this many seconds; longer than any run.
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
            self._app.send_task(
                JUDGE_SUBMISSION,
                args=[submission_id],
                queue=ENGINE_QUEUE,
                retry=True,
                retry_policy={"max_retries": 1, "interval_start": 0.2},
            )
        except OperationalError as error:
            log.warning("submission %s waits in the database: %s", submission_id, error)
            return False
        return True
