"""Holding a submission while it runs, so that no two workers run it at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from gate.store.submissions import SubmissionRecord

log = logging.getLogger(__name__)

#: A worker that has not renewed for this long is taken for dead, in seconds.
LEASE_SECONDS = 30.0


@contextmanager
def lease(
    record: SubmissionRecord, submission_id: str, owner: str, seconds: float = LEASE_SECONDS
) -> Iterator[bool]:
    """Hold the lease and renew it from a thread; yields False when another owner has it."""
    if not record.acquire(submission_id, owner, seconds):
        yield False
        return
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(seconds / 3):
            try:
                record.acquire(submission_id, owner, seconds)
            except SQLAlchemyError:
                log.warning(
                    "submission %s: its lease was not renewed", submission_id, exc_info=True
                )

    renewing = threading.Thread(target=renew, name=f"lease-{submission_id}", daemon=True)
    renewing.start()
    try:
        yield True
    finally:
        ended.set()
        renewing.join()
        record.release(submission_id, owner)
