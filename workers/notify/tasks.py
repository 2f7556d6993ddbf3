"""The Celery side of notification: one task, and the sweep that sends it when something is due."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import lru_cache
from typing import Any

from celery import Celery, signals
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from gate.hooks.config import load_hooks
from gate.settings import settings
from gate.store.database import open_database
from workers.notify.delivering import Notifier, notifier_of

log = logging.getLogger(__name__)

DELIVER_DUE = "workers.deliver_due"
NOTIFICATION_QUEUE = "notification"


@lru_cache(maxsize=1)
def _notifier() -> Notifier:
    return notifier_of(settings(), open_database(settings().database))


def register_notification(app: Celery) -> None:
    """Add the task to the app; a worker that takes the queue also sweeps while it runs.

    The database says what is due, so neither a lost task nor an emptied broker loses a delivery:
    the next sweep of any notification worker sends another task.

    Raises:
        HooksFileError: the hooks file is not usable; better now than at the first message.
    """
    load_hooks(settings().hooks_file)

    @app.task(name=DELIVER_DUE, queue=NOTIFICATION_QUEUE)  # type: ignore[untyped-decorator]
    def deliver_due() -> None:
        _notifier().deliver_due()

    @signals.worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def start_sweep(sender: Any, **_: Any) -> None:
        if NOTIFICATION_QUEUE not in sender.app.amqp.queues.consume_from:
            return
        for problem in _notifier().problems():
            log.error("%s; deliveries that need it fail until it is there", problem)
        stop = threading.Event()
        signals.worker_shutting_down.connect(lambda **_: stop.set(), weak=False)
        threading.Thread(
            target=sweep,
            args=(_notifier(), lambda: _send_task(app), stop),
            name="notification-sweep",
            daemon=True,
        ).start()


def sweep(notifier: Notifier, send_task: Callable[[], None], stop: threading.Event) -> None:
    """Ask again and again what is due, and have it sent, until stopped."""
    while not stop.is_set():
        try:
            if notifier.record.due():
                send_task()
        except OperationalError as error:
            log.warning("deliveries wait in the database: %s", error)
        except SQLAlchemyError:
            log.warning("the database was not asked for deliveries", exc_info=True)
        stop.wait(settings().notify_sweep_seconds)


def _send_task(app: Celery) -> None:
    # In a context of its own, as in gate/tasks.py.
    copy_context().run(
        app.send_task,
        DELIVER_DUE,
        queue=NOTIFICATION_QUEUE,
        # A task that nobody took by the next sweep is not needed: that sweep sends another one.
        expires=settings().notify_sweep_seconds,
        retry=True,
        retry_policy={"max_retries": 1, "interval_start": 0.2},
    )
