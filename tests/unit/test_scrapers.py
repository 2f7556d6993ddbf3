"""Who is let in to the metrics while keys cannot be looked up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gate.access.keys import ApiKey
from gate.access.scopes import Scope
from gate.access.scrapers import MOST, REMEMBERED, Scrapers

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def scrapers() -> Scrapers:
    return Scrapers()


def key(**changes: object) -> ApiKey:
    fields = {
        "id": "k1", "name": "prometheus", "scopes": (Scope.READ,), "created_at": NOW,
        "expires_at": None, "revoked_at": None, "last_used_at": None, **changes,
    }  # fmt: skip
    return ApiKey(**fields)  # type: ignore[arg-type]


def test_who_was_let_in_is_known_for_a_while_and_nobody_else(scrapers: Scrapers) -> None:
    mine = key()
    scrapers.remember("Bearer mine", mine, NOW)
    assert scrapers.knows("Bearer mine", NOW + REMEMBERED) == (True, mine)
    assert scrapers.knows("Bearer mine", NOW + REMEMBERED + timedelta(seconds=1))[0] is False
    assert scrapers.knows("Bearer other", NOW)[0] is False
    assert scrapers.knows(None, NOW)[0] is False


def test_a_key_that_expires_meanwhile_is_not_let_in(scrapers: Scrapers) -> None:
    scrapers.remember("Bearer mine", key(expires_at=NOW + timedelta(minutes=5)), NOW)
    assert scrapers.knows("Bearer mine", NOW + timedelta(minutes=4))[0] is True
    assert scrapers.knows("Bearer mine", NOW + timedelta(minutes=6))[0] is False


def test_who_is_refused_is_forgotten(scrapers: Scrapers) -> None:
    scrapers.remember(None, None, NOW)
    assert scrapers.knows(None, NOW) == (True, None)
    scrapers.forget(None)
    assert scrapers.knows(None, NOW)[0] is False


def test_only_the_latest_are_remembered(scrapers: Scrapers) -> None:
    for number in range(MOST + 1):
        scrapers.remember(f"Bearer {number}", key(), NOW)
    assert scrapers.knows("Bearer 0", NOW)[0] is False
    assert scrapers.knows(f"Bearer {MOST}", NOW)[0] is True
