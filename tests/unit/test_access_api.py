"""The door of the API: keys, scopes, rates, the audit log, and waivers behind it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from prometheus_client import REGISTRY
from sqlalchemy.exc import OperationalError
from starlette.websockets import WebSocketDisconnect
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.access.keys import Presented, mint
from gate.access.scopes import Scope
from gate.api import admission as admission_module
from gate.api.admission import Admission
from gate.api.app import create_app
from gate.policy import Condition
from gate.rate_limits import storage_uri
from gate.settings import Settings
from gate.store.audit import AuditEntry, AuditLog
from gate.store.database import open_database
from gate.store.keys import KeyStore
from gate.store.submissions import SubmissionRecord
from gate.submission import SubmissionRequest
from gate.verdict import decide

FAIL = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.3, 0.4)), DIGESTS
)  # fmt: skip
PASS = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.0, 0.1)), DIGESTS
)  # fmt: skip
REASON = "accepted for the pilot, SEC-41"


class Door:
    """An API in this process, and its database."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = open_database(settings.database)
        self.keys = KeyStore(self.database)
        self.submissions = SubmissionRecord(self.database)
        self.app = create_app(settings)
        self.api = TestClient(self.app, raise_server_exceptions=False)

    def key(self, *scopes: Scope, name: str = "ci", **changes: Any) -> Presented:
        return self.keys.create(name, scopes, changes.get("expires_at"), "cli:ada")[1]

    def call(self, method: str, path: str, key: Presented | None = None, **more: Any) -> Response:
        headers = {"Authorization": f"Bearer {key.text}"} if key else {}
        return self.api.request(method, path, headers=headers | more.pop("headers", {}), **more)

    def audit(self) -> list[tuple[str, str, str | None, int | None]]:
        """Actor, action, target and status of the calls, oldest first; not of the command line."""
        rows = AuditLog(self.database).newest(10_000)
        return [
            (r.actor, r.action, r.target, r.status)
            for r in reversed(rows)
            if not r.actor.startswith("cli:")
        ]

    def decided(self, verdict: Any = FAIL) -> str:
        made = self.submissions.create(SubmissionRequest(checkpoint="/c"), "api")
        self.submissions.conclude(made.id, verdict)
        return made.id


@pytest.fixture
def open_door(tmp_path: Path) -> Callable[..., Door]:
    (tmp_path / "root" / "model").mkdir(parents=True)

    def build(**changes: Any) -> Door:
        # A broker that no one reaches: limits and queue do without.
        settings = Settings(
            home=tmp_path / "home",
            broker_url="redis+socket:///nonexistent/socket",
            checkpoint_roots=[tmp_path / "root"],
            **changes,
        )
        return Door(settings)

    return build


@pytest.fixture
def door(open_door: Callable[..., Door]) -> Door:
    return open_door()


def problem(got: Response, status: int) -> str:
    assert got.status_code == status, got.text
    assert got.headers["content-type"] == "application/problem+json"
    assert got.json()["status"] == status
    detail: str = got.json()["detail"]
    return detail


def soon(hours: float = 1) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("emgate_requests_refused_total", {"reason": reason}) or 0.0


# --- keys and scopes


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


# --- last use


def test_last_use_is_noted_and_not_more_than_once_a_minute(door: Door) -> None:
    key = door.key(Scope.READ)
    assert door.keys.all()[0].last_used_at is None
    door.call("GET", "/v1/submissions", key)
    first = door.keys.all()[0].last_used_at
    assert first is not None
    door.call("GET", "/v1/submissions", key)
    assert door.keys.all()[0].last_used_at == first


def test_a_wrong_secret_is_no_use_of_the_key(door: Door) -> None:
    key = door.key(Scope.READ)
    door.call("GET", "/v1/submissions", Presented(key.id, mint().secret))
    assert door.keys.all()[0].last_used_at is None


# --- rates


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


# --- audit

WRONG_PAGES: list[dict[str, str]] = [
    {"cursor": "x"},
    {"cursor": "9" * 40},
    {"limit": "0"},
    {"since": "2026-01-01T00:00:00"},
    {"since": "0001-01-01T00:00:00+14:00"},
    {"since": "12345"},
    {"actor": "a\0b"},
]


def test_every_change_and_every_refusal_has_one_row(door: Door, tmp_path: Path) -> None:
    key = door.key(Scope.SUBMIT, Scope.READ)
    actor = f"key:ci:{key.id}"
    body = {"checkpoint": str(tmp_path / "root" / "model")}
    made = door.call("POST", "/v1/submissions", key, json=body)
    assert made.status_code == 202, made.text
    door.call("POST", "/v1/submissions", key, json={})
    door.call("GET", "/v1/submissions", key)
    door.call("POST", "/v1/submissions", json=body)
    door.call("DELETE", "/v1/waivers/wav_1", key)
    door.call("GET", "/v1/audit", key)
    door.call("GET", "/metrics")
    assert door.audit() == [
        (actor, "submission.create", made.json()["id"], 202),
        (actor, "submission.create", None, 422),
        ("anonymous", "submission.create", None, 401),
        (actor, "waiver.revoke", "wav_1", 403),
        (actor, "GET /v1/audit", None, 403),
    ]


def test_a_breakdown_is_audited_as_500(door: Door) -> None:
    def break_down(_: Any) -> None:
        raise RuntimeError("broken")

    door.app.state.admission.waivers.revoke = break_down
    assert problem(door.call("DELETE", "/v1/waivers/wav_1"), 500)
    assert door.audit() == [("local", "waiver.revoke", "wav_1", 500)]


def test_nothing_is_changed_when_the_audit_log_cannot_be_written(door: Door) -> None:
    def full(_: AuditEntry) -> int:
        raise OperationalError("INSERT", {}, Exception("disk full"))

    submission = door.decided()
    door.app.state.admission.audit.add = full
    body = {"reason": REASON, "expires_at": soon()}
    assert door.call("POST", f"/v1/submissions/{submission}/waivers", json=body).status_code == 500
    assert door.app.state.admission.waivers.all() == []


def test_whoever_has_no_key_cannot_fill_the_log(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = admission_module.REFUSALS_PER_MINUTE
    key = door.key(Scope.READ)
    before = refused("no_key")
    for _ in range(most + 20):
        door.call("POST", "/v1/submissions")
    assert refused("no_key") == before + most + 20
    # A fixed window may turn once while the calls are made.
    assert len(door.audit()) <= 2 * most
    door.call("POST", "/v1/submissions", key)
    assert door.audit()[-1] == (f"key:ci:{key.id}", "submission.create", None, 403)


def test_an_open_call_is_audited_with_the_actor_that_its_route_names(door: Door) -> None:
    @door.app.post("/v1/hooks/test")
    def hook(request: Any = None) -> dict[str, str]:
        return {}

    # Before the route of all senders, which knows no sender of this name.
    routes = door.app.router.routes
    routes.insert(0, routes.pop())
    door.key(Scope.ADMIN)
    assert door.call("POST", "/v1/hooks/test").status_code == 200
    assert door.audit() == [("anonymous", "hook.receive", "test", 200)]


def test_many_writers_at_once_lose_no_row_and_mix_none_up(tmp_path: Path) -> None:
    log = AuditLog(open_database(f"sqlite:///{tmp_path / 'gate.db'}"))

    def write(number: int) -> tuple[int, int]:
        row = log.add(AuditEntry("local", f"a{number}"))
        log.complete(row, number, f"t{number}" if number % 2 else None)
        return number, row

    with ThreadPoolExecutor(16) as threads:
        written = dict(threads.map(write, range(200)))
    rows = {row.id: row for row in log.newest(1000)}
    assert len(rows) == len(set(written.values())) == 200
    for number, row_id in written.items():
        target = f"t{number}" if number % 2 else None
        row = rows[row_id]
        assert (row.action, row.status, row.target) == (f"a{number}", number, target)


def test_the_log_is_read_in_pages_without_gap_or_repetition(door: Door) -> None:
    log = AuditLog(door.database)
    for number in range(7):
        log.add(AuditEntry("cli:ada", f"a{number}"))
    seen: list[str] = []
    cursor = None
    while True:
        wanted = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = door.call("GET", "/v1/audit", params=wanted).json()
        seen += [item["action"] for item in page["items"]]
        log.add(AuditEntry("cli:ada", "meanwhile"))
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"a{number}" for number in reversed(range(7))]
    only = door.call("GET", "/v1/audit", params={"action": "a3", "actor": "cli:ada"}).json()
    assert [item["action"] for item in only["items"]] == ["a3"]
    assert door.call("GET", "/v1/audit", params={"since": soon()}).json()["items"] == []
    for wrong in WRONG_PAGES:
        assert problem(door.call("GET", "/v1/audit", params=wrong), 422)


# --- no secret anywhere


def test_a_secret_is_in_no_log_no_answer_and_nowhere_in_the_database(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    # The client in this process logs its own requests; what the gate logs is looked at.
    for client in ("httpx", "httpx2"):
        caplog.set_level(logging.WARNING, client)
    caplog.set_level(logging.DEBUG)
    key, wrong = door.key(Scope.SUBMIT), mint()
    texts: list[str] = []
    for used in (key, wrong, Presented(key.id, wrong.secret), Presented(wrong.id, key.secret)):
        for method, path in (
            ("POST", "/v1/submissions"),
            ("GET", "/v1/submissions"),
            ("POST", f"/v1/{used.text}"),
            ("DELETE", f"/v1/waivers/{used.text}"),
            ("GET", f"/v1/submissions?key={used.text}"),
        ):
            got = door.call(method, path, used)
            texts.append(got.text + str(got.headers))

    def break_down(_: str) -> bool:
        raise RuntimeError("broken")

    door.app.state.parts.queue.send = break_down
    body = {"checkpoint": str(door.settings.checkpoint_roots[0] / "model")}
    got = door.call("POST", "/v1/submissions", key, json=body)
    assert got.status_code == 500
    # As uvicorn writes its access log.
    line = ("127.0.0.1:1", "GET", f"/v1/submissions?key={key.text}", "1.1", 200)
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', *line)
    door.keys.revoke(key.id, "cli:ada")
    texts += [got.text, caplog.text, door.call("GET", "/openapi.json").text]
    files = [file for file in door.settings.home.rglob("*") if file.is_file()]
    assert files
    texts += [file.read_bytes().decode("latin-1") for file in files]
    assert "broken" in caplog.text
    assert "[redacted]" in caplog.text
    for text in texts:
        for secret in (key.secret, wrong.secret):
            assert secret not in text


# --- waivers


def test_an_admin_releases_in_spite_of_a_fail_and_the_verdict_stays(door: Door) -> None:
    admin, submission = door.key(Scope.ADMIN, name="lead"), door.decided()
    here = f"/v1/submissions/{submission}"
    before = door.call("GET", f"{here}/verdict", admin).json()
    assert (before["released"], before["waivers"]) == (False, [])

    body = {"reason": REASON, "expires_at": soon()}
    made = door.call("POST", f"{here}/waivers", admin, json=body)
    assert made.status_code == 201, made.text
    waiver = made.json()
    assert (waiver["status"], waiver["granted_by"]) == ("active", f"key:lead:{admin.id}")
    after = door.call("GET", f"{here}/verdict", admin).json()
    assert after["released"] is True
    assert [w["reason"] for w in after["waivers"]] == [REASON]
    assert {k: v for k, v in after.items() if k not in {"released", "waivers"}} == {
        k: v for k, v in before.items() if k not in {"released", "waivers"}
    }
    assert (after["outcome"], after["release"]) == ("fail", "block")
    assert REASON in door.call("GET", f"{here}/report", admin).text
    assert 'emgate_waivers_active{policy="default"} 1.0' in door.call("GET", "/metrics", admin).text

    ended = door.call("DELETE", f"/v1/waivers/{waiver['id']}", admin)
    assert (ended.status_code, ended.json()["status"]) == (200, "revoked")
    assert door.call("GET", f"{here}/verdict", admin).json() == before
    listed = door.call("GET", f"{here}/waivers", admin).json()["items"]
    assert [w["status"] for w in listed] == ["revoked"]
    metrics = door.call("GET", "/metrics", admin).text
    assert 'emgate_waivers_active{policy="default"} 0.0' in metrics
    assert 'emgate_waivers_granted_total{policy="default"} 1.0' in metrics
    assert [(a, t, s) for _, a, t, s in door.audit()] == [
        ("waiver.grant", submission, 201),
        ("waiver.revoke", waiver["id"], 200),
    ]


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"reason": "short"}, 422, "reason"),
        ({"reason": " " * 30}, 422, "reason"),
        ({"expires_at": soon(-1)}, 422, "ended already"),
        ({"expires_at": soon(24 * 31)}, 422, "at most 30 days"),
        ({"expires_at": "2026-01-01T00:00:00"}, 422, "timezone"),
        ({"expires_at": None}, 422, "expires_at"),
        ({"expires_at": 4102444800}, 422, "is not a time"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, 422, "outside the calendar"),
        ({"surprise": 1}, 422, "surprise"),
    ],
)
def test_a_waiver_without_reason_or_end_is_refused(
    door: Door, change: dict[str, object], status: int, says: str
) -> None:
    body = {"reason": REASON, "expires_at": soon(), **change}
    path = f"/v1/submissions/{door.decided()}/waivers"
    assert says in problem(door.call("POST", path, json=body), status)
    assert door.call("GET", path).json()["items"] == []


def test_what_needs_no_waiver_or_has_no_verdict_is_a_409(door: Door) -> None:
    body = {"reason": REASON, "expires_at": soon()}
    waiting = door.submissions.create(SubmissionRequest(checkpoint="/c"), "api").id
    for submission, says in ((door.decided(PASS), "is a pass"), (waiting, "no verdict yet")):
        got = door.call("POST", f"/v1/submissions/{submission}/waivers", json=body)
        assert says in problem(got, 409)


def test_unknown_submissions_and_waivers_are_404(door: Door) -> None:
    body = {"reason": REASON, "expires_at": soon()}
    assert "sub_x" in problem(door.call("POST", "/v1/submissions/sub_x/waivers", json=body), 404)
    assert "sub_x" in problem(door.call("GET", "/v1/submissions/sub_x/waivers"), 404)
    assert "wav_x" in problem(door.call("DELETE", "/v1/waivers/wav_x"), 404)
    assert problem(door.call("DELETE", "/v1/waivers/%00"), 404)
    assert problem(door.call("GET", "/v1/submissions/%00/waivers"), 404)
    assert problem(door.call("POST", "/v1/submissions/%00/waivers", json=body), 404)


def test_the_other_metrics_are_there_when_the_waivers_cannot_be_counted(door: Door) -> None:
    assert "emgate_waivers_active" in door.call("GET", "/metrics").text
    admission: Admission = door.app.state.admission
    assert admission.keys.has_any() is False
    key = door.key(Scope.READ)
    door.call("GET", "/metrics", key)
    with door.database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE waivers")
    got = door.call("GET", "/metrics", key)
    assert got.status_code == 200
    assert "emgate_waivers_active" not in got.text
    assert "emgate_submissions_total" in got.text
