"""API keys: made, read, hashed, compared, shown without their secret; and durations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import unit.builders  # noqa: F401  (its profile of hypothesis)
from hypothesis import given
from hypothesis import strategies as st

from gate.access.durations import after, parse_duration, since
from gate.access.keys import (
    ApiKey,
    KeyState,
    Presented,
    check_name,
    hash_secret,
    matches,
    mint,
    parse_header,
    parse_key,
    redact,
)
from gate.access.scopes import Scope
from gate.errors import WrongUsageError

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HEX = "0123456789abcdef"
KEYS = st.builds(
    Presented,
    st.text(HEX, min_size=12, max_size=12),
    st.text(HEX, min_size=64, max_size=64),
)


@given(KEYS)
def test_a_key_survives_being_written_and_read(key: Presented) -> None:
    assert parse_key(key.text) == key
    assert parse_header(f"Bearer {key.text}") == key


def test_a_minted_key_has_256_random_bits_and_is_never_the_same() -> None:
    minted = [mint() for _ in range(100)]
    assert len({key.secret for key in minted}) == len({key.id for key in minted}) == 100
    assert all(len(bytes.fromhex(key.secret)) == 32 for key in minted)
    assert all(parse_key(key.text) == key for key in minted)


@given(KEYS, st.text(max_size=3), st.text(max_size=3))
def test_what_is_not_exactly_a_key_is_none(key: Presented, before: str, after: str) -> None:
    if before or after:
        assert parse_key(before + key.text + after) is None


@pytest.mark.parametrize(
    "text",
    ["", "emg_", "emg__", "emg_" + "a" * 12, "emg_" + "a" * 12 + "_" + "b" * 63, "EMG_x_y"],
)
def test_half_a_key_is_none(text: str) -> None:
    assert parse_key(text) is None


@pytest.mark.parametrize(
    ("header", "read"),
    [
        ("Bearer {}", True),
        ("bearer {}", True),
        ("BEARER  {}", True),
        ("{}", False),
        ("Basic {}", False),
        ("Bearer {0}, Bearer {0}", False),
        ("Bearer\t{}", False),
        ("", False),
    ],
)
def test_only_one_key_of_the_bearer_scheme_is_read(header: str, read: bool) -> None:
    assert (parse_header(header.format(mint().text)) is not None) is read


@given(KEYS, KEYS)
def test_a_secret_matches_its_own_hash_only(one: Presented, other: Presented) -> None:
    assert matches(one.secret, hash_secret(one.secret))
    assert matches(one.secret, hash_secret(other.secret)) == (one.secret == other.secret)
    assert one.secret not in hash_secret(one.secret)


@given(KEYS)
def test_nothing_matches_an_unknown_key_and_it_is_compared_all_the_same(key: Presented) -> None:
    assert matches(key.secret, None) is False
    assert matches("", None) is False


@given(KEYS, st.text(max_size=20), st.text(max_size=20))
def test_no_secret_is_left_in_a_redacted_text(key: Presented, before: str, after: str) -> None:
    text = redact(f"{before}{key.text}{after} {key.text}")
    assert key.secret not in text
    assert before in text


def test_a_presented_key_does_not_show_its_secret_in_a_traceback() -> None:
    key = mint()
    assert key.secret not in repr(key) + str(key)
    assert key.id in repr(key)


def key_of(**changes: object) -> ApiKey:
    fields = {
        "id": "a" * 12, "name": "ci", "scopes": (Scope.READ,), "created_at": NOW,
        "expires_at": None, "revoked_at": None, "last_used_at": None, **changes,
    }  # fmt: skip
    return ApiKey.model_validate(fields)


def test_a_key_ends_at_its_expiry_and_when_it_is_revoked() -> None:
    hour = timedelta(hours=1)
    key = key_of(expires_at=NOW + hour)
    assert key.state(NOW) is KeyState.ACTIVE
    assert key.state(NOW + hour) is KeyState.EXPIRED
    assert key_of(expires_at=NOW, revoked_at=NOW).state(NOW) is KeyState.REVOKED
    assert key_of().state(NOW + timedelta(days=99_999)) is KeyState.ACTIVE


@pytest.mark.parametrize("name", ["", " ci", "a:b", "a\nb", "x" * 65, "naïve", "a|b", "-x"])
def test_a_name_that_records_do_not_take_is_refused(name: str) -> None:
    with pytest.raises(WrongUsageError, match="is not a name for a key"):
        check_name(name)


def test_a_key_given_as_a_name_is_not_repeated() -> None:
    key = mint()
    with pytest.raises(WrongUsageError) as caught:
        check_name(key.text)
    assert key.secret not in str(caught.value)


@given(st.integers(1, 999_999), st.sampled_from("mhdw"))
def test_durations_are_whole_numbers_of_a_unit(count: int, unit: str) -> None:
    minutes = {"m": 1, "h": 60, "d": 60 * 24, "w": 60 * 24 * 7}[unit]
    assert parse_duration(f"{count}{unit}") == timedelta(minutes=count * minutes)


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "1.5h", "1y", "9999999d", "1d2h"])
def test_what_is_not_a_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(WrongUsageError, match="such as 90d"):
        parse_duration(text)


def test_times_are_relative_or_absolute_and_never_beyond_the_calendar() -> None:
    assert after(NOW, "2d") == NOW + timedelta(days=2)
    assert since(NOW, "2d") == NOW - timedelta(days=2)
    assert since(NOW, "2026-01-31T08:00:00Z") == datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert since(NOW, "2026-01-31").tzinfo is UTC
    for call in (after, since):
        with pytest.raises(WrongUsageError):
            call(NOW, "999999w")
    with pytest.raises(WrongUsageError, match="neither a duration"):
        since(NOW, "yesterday")
