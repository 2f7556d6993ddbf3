"""How many calls a key may make per minute, counted in the broker's Redis for all API processes."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from gate.settings import Settings

log = logging.getLogger(__name__)

WINDOW_SECONDS = 60
#: How long one question to Redis may take, in seconds.
REDIS_SECONDS = 0.25
#: How long Redis is left alone after it did not answer, in seconds.
PAUSE_SECONDS = 10.0


@dataclass(frozen=True)
class Refusal:
    """One call too many.

    Attributes:
        limit: name of the limit, ``submissions`` or ``reads``.
        quota: calls per minute.
        retry_after: seconds until another call may go through, at least 1.
    """

    limit: str
    quota: int
    retry_after: int

    @property
    def headers(self) -> dict[str, str]:
        """``Retry-After`` (RFC 9110) and ``RateLimit…`` (draft-ietf-httpapi-ratelimit-headers)."""
        return {
            "Retry-After": str(self.retry_after),
            "RateLimit-Policy": f'"{self.limit}";q={self.quota};w={WINDOW_SECONDS}',
            "RateLimit": f'"{self.limit}";r=0;t={self.retry_after}',
        }


class KeyLimits:
    """Counts calls per key.

    Without Redis every process counts for itself: the limit gets looser, at most by the number of
    API processes, but is never gone, and the loss of the broker stops no pipeline.
    """

    def __init__(self, settings: Settings) -> None:
        self._items = {
            name: RateLimitItemPerMinute(quota)
            for name, quota in (
                ("submissions", settings.rate_submissions_per_minute),
                ("reads", settings.rate_reads_per_minute),
            )
            if quota
        }
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = _shared_limiter(settings.broker_url)
        self._lock = threading.Lock()
        self._paused_until = 0.0

    def hit(self, key_id: str, writes: bool) -> Refusal | None:
        """Count a call; a refusal if it is one too many."""
        name = "submissions" if writes else "reads"
        item = self._items.get(name)
        if item is None:
            return None
        if self._shared is not None and time.monotonic() >= self._paused_until:
            try:
                return _hit(self._shared, item, name, key_id)
            except StorageError as error:
                with self._lock:
                    self._paused_until = time.monotonic() + PAUSE_SECONDS
                log.warning("rate limits are counted per process for now: %s", error)
        return _hit(self._own, item, name, key_id)


def _hit(
    limiter: SlidingWindowCounterRateLimiter, item: RateLimitItemPerMinute, name: str, key_id: str
) -> Refusal | None:
    if limiter.hit(item, name, key_id):
        return None
    reset = limiter.get_window_stats(item, name, key_id).reset_time
    wait = min(max(1, int(reset - time.time()) + 1), WINDOW_SECONDS)
    return Refusal(name, item.amount, wait)


def storage_uri(broker_url: str) -> str | None:
    """The broker's address as the library ``limits`` writes it; None for other brokers."""
    if broker_url.startswith("redis+socket://"):
        return "redis+unix://" + broker_url.removeprefix("redis+socket://")
    return broker_url if broker_url.startswith(("redis://", "rediss://")) else None


def _shared_limiter(broker_url: str) -> SlidingWindowCounterRateLimiter | None:
    uri = storage_uri(broker_url)
    if uri is None:
        return None
    try:
        storage = storage_from_string(
            uri,
            wrap_exceptions=True,
            key_prefix="emgate-limits",
            socket_connect_timeout=REDIS_SECONDS,
            socket_timeout=REDIS_SECONDS,
        )
    except (ConfigurationError, ValueError) as error:
        log.warning("rate limits are counted per process: %s", error)
        return None
    return SlidingWindowCounterRateLimiter(storage) if isinstance(storage, Storage) else None
