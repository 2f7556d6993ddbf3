"""Which requests are sent again, and when."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from tenacity import RetryCallState, wait_random_exponential

#: Answers that say "later".
LATER = frozenset({429, 502, 503, 504})
#: Longest wait before one more try, in seconds, whatever Retry-After asks.
LONGEST_SECONDS = 60.0
ATTEMPTS = 5
_backoff = wait_random_exponential(multiplier=0.5, max=10.0)


def says_later(response: httpx.Response) -> bool:
    """Whether the same request may be answered better in a moment.

    So may one whose Idempotency-Key is still being answered: its first try broke off here, not
    there.
    """
    if response.status_code == httpx.codes.CONFLICT:
        return b"idempotency-key-in-use" in response.content
    return response.status_code in LATER


def retry_after(response: httpx.Response, now: datetime) -> float | None:
    """Seconds that the answer asks to wait (both forms of RFC 9110), None if it does not say."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return min(float(value), LONGEST_SECONDS)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max((when - now).total_seconds(), 0.0), LONGEST_SECONDS)


def seconds_before_next(state: RetryCallState) -> float:
    """How long to wait: what Retry-After says, else an exponential backoff with jitter."""
    outcome = state.outcome
    if outcome is not None and not outcome.failed:
        asked = retry_after(outcome.result(), datetime.now(UTC))
        if asked is not None:
            return asked
    return _backoff(state)
