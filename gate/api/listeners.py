"""Who listens to events in this process: counted, so that there is a bound on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from gate.api.problems import RETRY_SECONDS, TOO_MANY_LISTENERS, ProblemError

#: Threads that read the database for listeners: apart from those that answer requests, so that
#: many listeners do not keep anybody else waiting.
READING_THREADS = 4

T = TypeVar("T")


class Listeners:
    """Counts open event streams, and reads the database for them off the event loop.

    Used from the event loop only, so the count needs no lock.
    """

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def one_more(self, most: int) -> Iterator[None]:
        """Count one listener while it listens.

        Raises:
            ProblemError: there are as many as there may be.
        """
        if self.count >= most:
            raise ProblemError.of(
                TOO_MANY_LISTENERS,
                f"This process already serves {most} event streams; read the submission instead.",
                {"Retry-After": str(RETRY_SECONDS)},
            )
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    async def read(self, question: Callable[[], T]) -> T:
        """The answer of a function that reads the database, in a thread of the listeners."""
        return await to_thread.run_sync(question, limiter=self._threads)

    @cached_property
    def _threads(self) -> CapacityLimiter:
        return CapacityLimiter(READING_THREADS)
