"""While no key exists: what counts as this machine, and when the API may start."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

import pytest

from gate.access.keys import ApiKey
from gate.access.loopback import is_loopback_address, listens_on_loopback, why_not_local
from gate.access.scopes import Scope
from gate.access.start import hint_without_active_key, require_key_to_listen
from gate.errors import WrongUsageError

LOCAL = {"host": "127.0.0.1:8000"}
NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "localhost"])
def test_loopback_is_reached_from_this_machine_only(host: str) -> None:
    assert listens_on_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "0", "10.0.0.1", "192.168.1.1", "::ffff:10.0.0.1", "fe80::1", "*"]
)
def test_every_other_address_is_open_to_others(host: str) -> None:
    assert not listens_on_loopback(host)


def test_a_name_counts_only_if_all_its_addresses_are_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"inside": ["127.0.0.1", "::1"], "both": ["127.0.0.1", "10.0.0.7"], "out": ["10.0.0.7"]}

    def resolve(name: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        if name not in known:
            raise socket.gaierror("unknown")
        return [(0, 0, 0, "", (address, 0)) for address in known[name]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    hosts = ("inside", "both", "out", "unknown")
    assert [listens_on_loopback(host) for host in hosts] == [True, False, False, False]


@pytest.mark.parametrize("text", ["localhost", "", "127.0.0.1.evil.example", "127.0.0.1:80", "x"])
def test_a_name_is_no_loopback_address(text: str) -> None:
    assert not is_loopback_address(text)


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("127.0.0.1", LOCAL),
        ("::1", {"host": "[::1]:8000"}),
        ("::ffff:127.0.0.1", {"host": "localhost"}),
        ("127.0.0.1", {**LOCAL, "origin": "http://127.0.0.1:8000"}),
        (None, {}),
        ("testclient", {"host": "testserver"}),
    ],
)
def test_a_request_of_this_machine_is_served(peer: str | None, headers: dict[str, str]) -> None:
    assert why_not_local(peer, headers) is None


@pytest.mark.parametrize(
    ("peer", "headers", "why"),
    [
        ("10.0.0.7", LOCAL, "another machine"),
        ("172.18.0.1", LOCAL, "another machine"),
        ("fe80::1%eth0", LOCAL, "another machine"),
        ("not an address", LOCAL, "another machine"),
        ("127.0.0.1", {**LOCAL, "x-forwarded-for": "127.0.0.1"}, "proxy"),
        ("127.0.0.1", {**LOCAL, "forwarded": "for=127.0.0.1"}, "proxy"),
        ("127.0.0.1", {**LOCAL, "via": "1.1 nginx"}, "proxy"),
        (None, {"x-real-ip": "127.0.0.1"}, "proxy"),
        ("127.0.0.1", {"host": "gate.example:8000"}, "Host"),
        ("127.0.0.1", {"host": "localhost.evil.example"}, "Host"),
        ("127.0.0.1", {"host": "127.0.0.1@evil.example"}, "Host"),
        ("127.0.0.1", {"host": "[::1"}, "Host"),
        ("127.0.0.1", {}, "Host"),
        ("127.0.0.1", {**LOCAL, "origin": "https://evil.example"}, "origin"),
        ("127.0.0.1", {**LOCAL, "origin": "null"}, "origin"),
        ("127.0.0.1", {**LOCAL, "origin": "http://127.0.0.1:3000"}, "origin"),
    ],
)
def test_what_may_come_from_elsewhere_is_not_served(
    peer: str | None, headers: dict[str, str], why: str
) -> None:
    assert why in (why_not_local(peer, headers) or "")


def key(**changes: object) -> ApiKey:
    fields = {
        "id": "a" * 12, "name": "ci", "scopes": (Scope.READ,), "created_at": NOW,
        "expires_at": None, "revoked_at": None, "last_used_at": None, **changes,
    }  # fmt: skip
    return ApiKey.model_validate(fields)


def test_without_a_key_the_api_starts_on_loopback_only() -> None:
    require_key_to_listen("127.0.0.1", [], keys_required=False)
    with pytest.raises(WrongUsageError, match="emgate keys create"):
        require_key_to_listen("0.0.0.0", [], keys_required=False)
    with pytest.raises(WrongUsageError, match="GATE_KEYS_REQUIRED"):
        require_key_to_listen("127.0.0.1", [], keys_required=True)


@pytest.mark.parametrize("ended", [{}, {"revoked_at": NOW}, {"expires_at": NOW}])
def test_with_a_key_it_starts_anywhere_since_nobody_gets_in_without_one(
    ended: dict[str, object],
) -> None:
    require_key_to_listen("0.0.0.0", [key(**ended)], keys_required=True)
    hint = hint_without_active_key([key(**ended)], NOW)
    assert (hint is not None) is bool(ended)
