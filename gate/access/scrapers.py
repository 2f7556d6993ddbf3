"""Who may read the metrics while the record, which has the keys, is away.

Metrics are worth most when the database does not answer, and then no key can be looked up. So who
was let in a little while ago is let in again, to the metrics and to nothing else.
"""

from __future__ import annotations

import hashlib
import threading
from datetime import datetime, timedelta

from gate.access.keys import ApiKey, KeyState

#: How long a scraper is let in after its key was last looked up.
REMEMBERED = timedelta(hours=1)
#: How many scrapers are remembered, the latest.
MOST = 16


class Scrapers:
    """Remembers who was let in to the metrics. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[ApiKey | None, datetime]] = {}

    def remember(self, header: str | None, key: ApiKey | None, now: datetime) -> None:
        """Note that this header was admitted with this key; both None where none was needed."""
        with self._lock:
            self._known.pop(_digest(header), None)
            self._known[_digest(header)] = (key, now)
            while len(self._known) > MOST:
                del self._known[next(iter(self._known))]

    def forget(self, header: str | None) -> None:
        """Note that this header was refused."""
        with self._lock:
            self._known.pop(_digest(header), None)

    def knows(self, header: str | None, now: datetime) -> tuple[bool, ApiKey | None]:
        """Whether this header was admitted lately, and with what key, which must still be valid."""
        with self._lock:
            key, at = self._known.get(_digest(header), (None, None))
        if at is None or now - at > REMEMBERED:
            return False, None
        return key is None or key.state(now) is KeyState.ACTIVE, key


def _digest(header: str | None) -> str:
    # The header holds a secret, which is not kept.
    return hashlib.sha256((header or "").encode()).hexdigest()
