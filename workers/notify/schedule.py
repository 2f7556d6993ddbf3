"""When a delivery that failed is tried again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

#: Waits are spread by this share to either side, so that receivers are not met by all at once.
SPREAD = 0.2
#: The longest that a receiver may ask for by Retry-After, in seconds.
LONGEST_RETRY_AFTER = 86_400.0


def next_attempt(
    schedule: Sequence[float],
    attempts: int,
    now: datetime,
    chance: Callable[[], float],
    retry_after: float | None = None,
) -> datetime | None:
    """When to try again after this many attempts (from 1); None when it was the last.

    ``chance`` gives numbers in [0, 1). A receiver may ask for a later time, never an earlier one.

    Law: the time is not before ``now + (1 - SPREAD) * schedule[attempts - 1]``.
    """
    if attempts > len(schedule):
        return None
    wait = schedule[attempts - 1] * (1 - SPREAD + 2 * SPREAD * chance())
    return now + timedelta(seconds=max(wait, retry_after or 0.0))


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """What ``Retry-After`` asks for, as seconds from now in [0, LONGEST_RETRY_AFTER]; else None."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        # More digits than this are longer than the longest anyway.
        return LONGEST_RETRY_AFTER if len(text) > 9 else min(float(text), LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER)
