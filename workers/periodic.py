"""Work that comes back: every worker does it beside its runs, each job in a thread of its own."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Something to do about every so many seconds; all workers do it, so it must bear that."""

    name: str
    seconds: float
    do: Callable[[], object]


def start(jobs: Iterable[Job]) -> None:
    """Do each job now and then again and again, for as long as the process lives."""
    for job in jobs:
        threading.Thread(target=_repeat, args=(job,), name=job.name, daemon=True).start()


def _repeat(job: Job) -> None:
    while True:
        try:
            job.do()
        except Exception:
            log.exception("%s went wrong; it is tried again in %g s", job.name, job.seconds)
        # Not in step with the other workers.
        time.sleep(job.seconds * random.uniform(0.8, 1.2))
