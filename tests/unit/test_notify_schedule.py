"""When a failed delivery is tried again, and what an answer means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from gate.settings import Settings
from workers.notify.outcome import Result
from workers.notify.schedule import (
    LONGEST_RETRY_AFTER,
    SPREAD,
    next_attempt,
    retry_after_seconds,
)
from workers.notify.transport import Answer
from workers.notify.webhooks import outcome_of, signed_headers

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SCHEDULE = [5.0, 300.0, 1800.0]


@given(
    attempts=st.integers(1, len(SCHEDULE)),
    chance=st.floats(0, 1, exclude_max=True),
    asked=st.none() | st.floats(0, LONGEST_RETRY_AFTER),
)
def test_a_wait_is_near_the_schedule_and_never_shorter_than_asked(
    attempts: int, chance: float, asked: float | None
) -> None:
    at = next_attempt(SCHEDULE, attempts, NOW, lambda: chance, asked)
    assert at is not None
    wait = (at - NOW).total_seconds()
    planned = SCHEDULE[attempts - 1]
    assert wait >= planned * (1 - SPREAD) - 1e-6
    assert wait <= max(planned * (1 + SPREAD), asked or 0) + 1e-6
    assert asked is None or wait >= asked - 1e-6


def test_after_the_last_wait_there_is_no_further_attempt() -> None:
    assert next_attempt(SCHEDULE, len(SCHEDULE) + 1, NOW, lambda: 0.5) is None
    assert next_attempt([], 1, NOW, lambda: 0.5) is None


def test_by_default_a_receiver_may_be_down_for_days() -> None:
    schedule = Settings().notify_schedule
    assert schedule == sorted(schedule)
    assert schedule[0] <= 10
    assert timedelta(days=2) < timedelta(seconds=sum(schedule)) < timedelta(days=4)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("120", 120), (" 5 ", 5), ("0", 0), ("-1", None), ("soon", None), ("", None),
        ("9" * 30, LONGEST_RETRY_AFTER), ("1e3", None), ("²", None),
        (format_datetime(NOW + timedelta(minutes=2), usegmt=True), 120),
        (format_datetime(NOW - timedelta(minutes=2), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), LONGEST_RETRY_AFTER),
        ("Tue, 24 Nov 2026 12:01:00 -0000", 60),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_within_a_day(
    header: str | None, seconds: float | None
) -> None:
    assert retry_after_seconds(header, NOW) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_breaks_it(header: str) -> None:
    found = retry_after_seconds(header, NOW)
    assert found is None or 0 <= found <= LONGEST_RETRY_AFTER


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, httpx.Headers(headers), body)


@pytest.mark.parametrize(
    ("status", "result"),
    [(200, Result.DELIVERED), (204, Result.DELIVERED), (301, Result.REFUSED),
     (307, Result.REFUSED), (400, Result.REFUSED), (410, Result.GONE), (503, Result.REFUSED)],
)  # fmt: skip
def test_only_2xx_is_taken(status: int, result: Result) -> None:
    assert outcome_of(answer(status)).result is result


def test_a_refusal_is_told_in_one_short_line() -> None:
    outcome = outcome_of(answer(503, b"busy\n\xff" + b"x" * 9999, **{"retry-after": "7"}))
    assert outcome.error.startswith("answered 503: busy")
    assert "\n" not in outcome.error
    assert len(outcome.error) < 300
    assert outcome.retry_after == 7


def test_each_of_two_secrets_verifies_what_both_have_signed() -> None:
    secrets = [b"a" * 32, b"b" * 32]
    headers = signed_headers(secrets, "msg_1", datetime.now(UTC), '{"a":1}')
    for secret in secrets:
        assert Webhook(secret).verify('{"a":1}', headers) == {"a": 1}
