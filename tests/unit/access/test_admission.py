"""Who comes in: keys, scopes, their last use, and rates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect
from unit.access.door import Door, problem, refused

from gate.access.keys import Presented, mint
from gate.access.scopes import Scope
from gate.api import admission as admission_module
from gate.rate_limits import storage_uri


def test_while_no_key_exists_this_machine_is_served_as_local(door: Door) -> None:
    made = door.call("POST", "/v1/submissions", json={"checkpoint": "/nowhere"})
    assert made.status_code == 403, "refused by its route, not at the door"
    assert door.audit() == [("local", "submission.create", None, 403)]
    assert door.call("GET", "/v1/audit").status_code == 200


def test_the_first_key_closes_the_door_at_once_and_for_good(door: Door) -> None:
    assert door.call("GET", "/v1/submissions").status_code == 200
    key = door.key(Scope.READ)
    assert problem(door.call("GET", "/v1/submissions"), 401)
    assert door.call("GET", "/v1/submissions", key).status_code == 200
    door.keys.revoke(key.id, "cli:ada")
    assert "revoked" in problem(door.call("GET", "/v1/submissions", key), 401)
    assert problem(door.call("GET", "/v1/submissions"), 401)
    assert problem(Door(door.settings).call("GET", "/v1/submissions"), 401)


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (None, 'Bearer realm="em-gate"'),
        ("Bearer nonsense", 'Bearer realm="em-gate", error="invalid_token"'),
        ("Basic YTpi", 'Bearer realm="em-gate", error="invalid_token"'),
        ("", 'Bearer realm="em-gate", error="invalid_token"'),
    ],
)
def test_without_a_valid_key_the_answer_is_401_with_a_challenge(
    door: Door, header: str | None, challenge: str
) -> None:
    door.key(Scope.ADMIN)
    headers = {} if header is None else {"Authorization": header}
    got = door.call("GET", "/v1/submissions", headers=headers)
    assert "emgate keys create" in problem(got, 401)
    assert got.headers["www-authenticate"] == challenge


def test_an_unknown_id_and_a_wrong_secret_get_the_same_answer(door: Door) -> None:
    real, other = door.key(Scope.ADMIN), mint()
    answers = [
        door.call("GET", "/v1/submissions", forged, headers={"X-Request-ID": "same"})
        for forged in (other, Presented(real.id, other.secret), Presented(other.id, real.secret))
    ]
    assert len({(a.status_code, a.text, a.headers["www-authenticate"]) for a in answers}) == 1
    assert answers[0].status_code == 401


def test_an_expired_key_opens_nothing_and_says_so_only_to_its_holder(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = door.key(Scope.ADMIN, expires_at=datetime.now(UTC) + timedelta(hours=1))

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=2)

    monkeypatch.setattr(admission_module, "datetime", Later)
    assert "expired" in problem(door.call("GET", "/v1/submissions", key), 401)
    guessed = Presented(key.id, mint().secret)
    assert "expired" not in problem(door.call("GET", "/v1/submissions", guessed), 401)


@pytest.mark.parametrize(
    ("scope", "method", "path", "missing"),
    [
        (Scope.READ, "POST", "/v1/submissions", "submit"),
        (Scope.SUBMIT, "GET", "/v1/submissions", "read"),
        (Scope.SUBMIT, "GET", "/metrics", "read"),
        (Scope.READ, "GET", "/v1/audit", "admin"),
        (Scope.SUBMIT, "POST", "/v1/submissions/sub_1/waivers", "admin"),
        (Scope.SUBMIT, "DELETE", "/v1/waivers/wav_1", "admin"),
        (Scope.READ, "GET", "/v1/nothing/here", "admin"),
        (Scope.READ, "DELETE", "/v1/submissions", "admin"),
    ],
)
def test_a_missing_scope_is_named(
    door: Door, scope: Scope, method: str, path: str, missing: str
) -> None:
    before = refused("scope")
    got = door.call(method, path, door.key(scope))
    assert f"the scope '{missing}'" in problem(got, 403)
    assert f'error="insufficient_scope", scope="{missing}"' in got.headers["www-authenticate"]
    assert refused("scope") == before + 1


def test_unknown_paths_are_found_out_by_admins_only(door: Door) -> None:
    admin = door.key(Scope.ADMIN)
    assert problem(door.call("GET", "/nope"), 401)
    assert problem(door.call("GET", "/nope", admin), 404)
    assert problem(door.call("DELETE", "/v1/submissions", admin), 405)


def test_health_and_documentation_are_open_and_metrics_are_not(door: Door) -> None:
    reader = door.key(Scope.READ)
    for path in ("/health", "/openapi.json", "/docs"):
        assert door.call("GET", path).status_code == 200
    assert problem(door.call("GET", "/metrics"), 401)
    assert "emgate_requests_refused_total" in door.call("GET", "/metrics", reader).text


def test_two_authorization_headers_are_none(door: Door) -> None:
    key = door.key(Scope.ADMIN)
    twice = [("Authorization", f"Bearer {key.text}"), ("Authorization", "Bearer x")]
    assert problem(door.api.get("/v1/submissions", headers=twice), 401)


def test_keys_can_be_asked_for_even_on_loopback(open_door: Callable[..., Door]) -> None:
    door = open_door(keys_required=True)
    assert "GATE_KEYS_REQUIRED" in problem(door.call("GET", "/v1/submissions"), 401)
    assert door.call("GET", "/health").status_code == 200


def test_without_keys_a_request_through_a_proxy_is_refused(door: Door) -> None:
    through = {"X-Forwarded-For": "127.0.0.1"}
    got = door.call("GET", "/v1/submissions", headers=through)
    assert "through a proxy" in problem(got, 401)
    key = door.key(Scope.READ)
    assert door.call("GET", "/v1/submissions", key, headers=through).status_code == 200


def test_a_websocket_is_refused(door: Door) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as caught,
        door.api.websocket_connect("/v1/submissions"),
    ):
        pytest.fail("it was accepted")
    assert caught.value.code == 1008


def test_the_document_names_the_key_the_scope_and_the_refusals(door: Door) -> None:
    document = door.call("GET", "/openapi.json").json()
    create = document["paths"]["/v1/submissions"]["post"]
    assert create["x-required-scope"] == "submit"
    assert create["security"] == [{"key": []}, {}]
    assert {"401", "403", "429"} <= create["responses"].keys()
    assert "security" not in document["paths"]["/health"]["get"]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert document["paths"]["/v1/audit"]["get"]["x-required-scope"] == "admin"


def test_last_use_is_noted_and_not_more_than_once_a_minute(door: Door) -> None:
    key = door.key(Scope.READ)
    assert door.last_use() is None
    door.call("GET", "/v1/submissions", key)
    first = door.last_use()
    assert first is not None
    door.call("GET", "/v1/submissions", key)
    assert door.last_use() == first


def test_a_wrong_secret_is_no_use_of_the_key(door: Door) -> None:
    key = door.key(Scope.READ)
    door.call("GET", "/v1/submissions", Presented(key.id, mint().secret))
    assert door.last_use() is None


def test_one_call_too_many_is_told_when_to_come_back(open_door: Callable[..., Door]) -> None:
    door = open_door(rate_reads_per_minute=3)
    key, other = door.key(Scope.READ), door.key(Scope.READ, name="other")
    for _ in range(3):
        assert door.call("GET", "/v1/submissions", key).status_code == 200
    got = door.call("GET", "/v1/submissions", key)
    assert "3 such calls a minute" in problem(got, 429)
    wait = int(got.headers["retry-after"])
    assert 1 <= wait <= 60
    assert got.headers["ratelimit-policy"] == '"reads";q=3;w=60'
    assert got.headers["ratelimit"] == f'"reads";r=0;t={wait}'
    assert door.call("GET", "/v1/submissions", other).status_code == 200


def test_changes_and_reads_are_counted_apart_and_zero_is_no_limit(
    open_door: Callable[..., Door],
) -> None:
    door = open_door(rate_submissions_per_minute=1, rate_reads_per_minute=0)
    key = door.key(Scope.ADMIN)
    calls = [door.call("DELETE", "/v1/waivers/wav_x", key).status_code for _ in range(2)]
    assert calls == [404, 429]
    assert {door.call("GET", "/v1/submissions", key).status_code for _ in range(20)} == {200}


@pytest.mark.parametrize(
    ("broker", "uri"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("rediss://h:6379/0", "rediss://h:6379/0"),
        ("redis+socket:///run/b", "redis+unix:///run/b"),
        ("amqp://h", None),
        ("memory://", None),
    ],
)
def test_limits_are_kept_in_the_broker_if_it_is_redis(broker: str, uri: str | None) -> None:
    assert storage_uri(broker) == uri
