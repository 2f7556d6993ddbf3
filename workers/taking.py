"""Which submission a worker takes next, and finding those of which the broker does not know.

A task in the broker is no more than a call to look into the database: a worker that gets one takes
the submission that has waited longest, whichever the task names. So a task that was lost, or that
came twice, changes neither what is run nor in which order.
"""

from __future__ import annotations

import logging
import threading

from gate.settings import Settings
from gate.store.submissions import SubmissionRecord
from gate.tasks import TaskQueue
from workers.lease import Lease, WorkerStoppedError, lease
from workers.run import Run

log = logging.getLogger(__name__)

#: How many of the waiting submissions a worker tries to get before it leaves them to others.
TRIED = 20
#: How many tasks are sent at once for submissions that wait in the database.
SWEPT_AT_ONCE = 1000


class Taking:
    """Takes submissions out of the record, one at a time."""

    def __init__(
        self, settings: Settings, submissions: SubmissionRecord, run: Run, worker: str
    ) -> None:
        self._settings = settings
        self._submissions = submissions
        self._run = run
        self._worker = worker
        self._lock = threading.Lock()
        self._held: Lease | None = None
        self._stopping = False

    def take_next(self) -> str | None:
        """Run the submission that has waited longest; its id, or None if there was none to get."""
        for submission_id in self._submissions.waiting(TRIED):
            with lease(
                self._submissions,
                submission_id,
                self._worker,
                self._settings.lease_seconds,
                self._settings.heartbeat_seconds,
            ) as held:
                if held:
                    self._hold(held)
                    try:
                        self._run.take(held)
                    finally:
                        self._hold(None)
                    return submission_id
        return None

    def stop(self) -> None:
        """Let go of what is run now, and of whatever is taken from now on; it is not counted."""
        with self._lock:
            self._stopping = True
            if self._held:
                self._held.interrupt(WorkerStoppedError("the worker is being stopped"))

    def _hold(self, held: Lease | None) -> None:
        with self._lock:
            self._held = held
            if held and self._stopping:
                held.interrupt(WorkerStoppedError("the worker is being stopped"))


def sweep(submissions: SubmissionRecord, queue: TaskQueue) -> int:
    """Send a task for everything that waits in the database, if the broker has none.

    As long as tasks wait in the broker, workers are called anyway and take the oldest first; so
    the broker is not filled with copies while all workers are busy.

    Returns:
        How many tasks were sent.
    """
    waiting = submissions.waiting(SWEPT_AT_ONCE)
    if not waiting or queue.depth():
        return 0
    log.info("%d submissions wait and the broker knows of none: sent again", len(waiting))
    return sum(queue.send(submission_id) for submission_id in waiting)
