"""Holding a submission while it runs, so that no two workers run it at once."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError
from structlog.contextvars import bound_contextvars

from gate.metrics import LEASE_TAKEOVERS
from gate.store.fence import (
    Holder,
    LeaseLostError,
    RunInterruptedError,
    SubmissionEndedError,
)
from gate.store.submissions import SubmissionRecord
from gate.submission import TERMINAL
from gate.tracing import traces

log = logging.getLogger(__name__)

#: A worker that has not renewed for this long is taken for dead, in seconds.
LEASE_SECONDS = 30.0
#: How often a holder renews and looks whether its submission was cancelled, in seconds.
HEARTBEAT_SECONDS = 3.0


class WorkerStoppedError(RunInterruptedError):
    """The worker is being stopped; another one goes on."""


@dataclass(frozen=True)
class Lease:
    """One hold of one submission. ``seconds`` is how long it lasts without a heartbeat."""

    holder: Holder
    worker: str
    seconds: float
    _why: list[RunInterruptedError] = field(default_factory=list)

    def interrupt(self, why: RunInterruptedError) -> None:
        """Tell the run, from whatever thread, to stop; the first reason stands."""
        self._why.append(why)

    def require(self) -> None:
        """Return while the run may go on.

        Raises:
            RunInterruptedError: the lease is lost, or the submission has ended.
        """
        if self._why:
            raise self._why[0]


@contextmanager
def lease(
    record: SubmissionRecord,
    submission_id: str,
    worker: str,
    seconds: float = LEASE_SECONDS,
    heartbeat: float = HEARTBEAT_SECONDS,
) -> Iterator[Lease | None]:
    """Hold the lease and renew it from a thread; yields None when another worker has it.

    When the lease is lost (another worker has it, or the database was away for as long as it
    lasts), or the submission has ended, the lease's :meth:`Lease.require` raises from then on.
    """
    holder = Holder(submission_id, f"{worker}/{uuid.uuid4().hex[:8]}")
    began = time.monotonic()
    has_lapsed = record.has_lapsed(submission_id)
    if not record.acquire(submission_id, holder.token, seconds):
        yield None
        return
    if has_lapsed:
        LEASE_TAKEOVERS.inc()
    held = Lease(holder, worker, seconds)
    ended = threading.Event()
    with bound_contextvars(submission=submission_id, worker=worker):
        renewing = threading.Thread(
            # A thread has none of what is bound here unless it is given it.
            target=copy_context().run,
            args=(_renew, record, held, began, min(heartbeat, seconds / 3), ended.wait),
            name=f"lease-{submission_id}",
            daemon=True,
        )
        renewing.start()
        try:
            yield held
        finally:
            ended.set()
            renewing.join()
            try:
                record.release(submission_id, holder.token)
            except SQLAlchemyError as error:
                log.warning(
                    "submission %s: its lease was not given back and has to run out: %s",
                    submission_id,
                    error,
                )


def _renew(
    record: SubmissionRecord,
    held: Lease,
    renewed: float,
    every: float,
    wait: Callable[[float], bool],
) -> None:
    """Renew until told to end; interrupt the run once there is nothing to renew."""
    submission_id = held.holder.submission_id
    while not wait(every):
        began = time.monotonic()
        try:
            with traces().unrecorded():
                state = record.renew(submission_id, held.holder.token, held.seconds)
        except SQLAlchemyError as error:
            log.warning("submission %s: its lease was not renewed: %s", submission_id, error)
            if time.monotonic() - renewed > held.seconds:
                held.interrupt(
                    LeaseLostError(
                        f"the database did not answer for the {held.seconds:g} s of the lease"
                    )
                )
                return
            continue
        if state is None:
            held.interrupt(LeaseLostError("another worker has taken it over"))
            return
        if state in TERMINAL:
            held.interrupt(SubmissionEndedError(f"it is {state}"))
            return
        renewed = began
