"""Keeps the parts of a local service alive, within bounds."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Protocol

from gate.errors import GateError

#: A part that dies more often than this within the window is given up.
RESTARTS = 5
WINDOW_SECONDS = 600.0


class Parts(Protocol):
    """What is kept alive."""

    def dead(self) -> list[str]:
        """Names of the parts that have ended."""

    def start(self, name: str) -> None:
        """Start a part again.

        Raises:
            GateError: it did not start.
        """


class Supervisor:
    """Restarts parts that died, and says so."""

    def __init__(
        self,
        parts: Parts,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = parts
        self._say = say
        self._clock = clock
        self._deaths: dict[str, deque[float]] = defaultdict(deque)

    def look(self) -> None:
        """Start again what has ended since the last look.

        Raises:
            GateError: a part died too often, or did not start again.
        """
        for name in self._parts.dead():
            now, deaths = self._clock(), self._deaths[name]
            deaths.append(now)
            while deaths[0] <= now - WINDOW_SECONDS:
                deaths.popleft()
            if len(deaths) > RESTARTS:
                raise GateError(
                    f"the {name} died {len(deaths)} times within {WINDOW_SECONDS / 60:g} minutes"
                )
            self._say(f"the {name} died; starting it again ({len(deaths)} of {RESTARTS})")
            self._parts.start(name)
