"""When a request that got no reply yet is sent again, and when it is given up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """What to do now."""

    WAIT = "wait"
    SEND = "send"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Terms:
    """How long is waited, in seconds.

    ``unheld`` is for a worker that takes the request, ``lost`` how long a request that no queue
    has and nobody holds may be on its way, ``silent`` how long after its holder was last seen it
    is sent again. ``deaths`` is how many holders may die over it.
    """

    unheld: float
    lost: float
    silent: float
    deaths: int


class Waiting:
    """The wait of one request. Times are those of any clock that only goes forward.

    A request that somebody holds is waited for without end: its holder shows that it lives, and
    its judge has a patience of its own.
    """

    def __init__(self, terms: Terms, now: float) -> None:
        self._terms = terms
        self._unheld_since = now
        self._sent_at: float | None = None
        self._seen_at: float | None = None
        self.deaths = 0

    def sent(self, now: float) -> None:
        """Note that it was given to the broker."""
        self._sent_at = now

    def next(self, now: float, held: bool, queued: bool) -> Step:
        """What to do, given whether a worker holds it and whether the queue has any request."""
        if held:
            self._seen_at = now
            return Step.WAIT
        if self._seen_at is not None:
            if now - self._seen_at < self._terms.silent:
                return Step.WAIT
            self.deaths += 1
            self._seen_at, self._unheld_since = None, now
            return Step.GIVE_UP if self.deaths >= self._terms.deaths else Step.SEND
        if now - self._unheld_since >= self._terms.unheld:
            return Step.GIVE_UP
        if self._sent_at is None:
            return Step.SEND
        if not queued and now - self._sent_at >= self._terms.lost:
            return Step.SEND
        return Step.WAIT
