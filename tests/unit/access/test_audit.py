"""What the audit log has of every call, and what no log has."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from unit.access.door import REASON, Door, problem, refused, soon

from gate.access.keys import Presented, mint
from gate.access.scopes import Scope
from gate.api import admission as admission_module
from gate.store import audit as audit_module
from gate.store.audit import AuditEntry, AuditLog
from gate.store.database import open_database

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


def test_a_submission_and_its_row_are_there_together_or_not_at_all(door: Door) -> None:
    body = {"checkpoint": str(door.settings.checkpoint_roots[0] / "model")}
    first = door.call("POST", "/v1/submissions", json=body)
    assert first.status_code == 202, first.text
    for table in ("audit", "transitions"):
        with door.database.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO gone")
        assert door.call("POST", "/v1/submissions", json=body).status_code == 503
        door.app.state.admission.audit.settle()
        with door.database.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE gone RENAME TO {table}")
    made = door.call("GET", "/v1/submissions").json()["items"]
    assert [one["id"] for one in made] == [first.json()["id"]]
    assert door.audit() == [
        ("local", "submission.create", first.json()["id"], 202),
        ("local", "submission.create", None, 503),
    ]


def test_a_submission_that_is_recorded_before_the_call_breaks_has_one_row_of_it(door: Door) -> None:
    def break_down(_: str) -> bool:
        raise RuntimeError("broken")

    body = {"checkpoint": str(door.settings.checkpoint_roots[0] / "model")}
    door.app.state.parts.queue.send = break_down
    assert door.call("POST", "/v1/submissions", json=body).status_code == 500
    (made,) = door.call("GET", "/v1/submissions").json()["items"]
    assert door.audit() == [("local", "submission.create", made["id"], 500)]


def test_a_repeated_call_has_a_row_of_its_own_with_what_the_first_one_made(door: Door) -> None:
    body = {"checkpoint": str(door.settings.checkpoint_roots[0] / "model")}
    header = {"Idempotency-Key": "once"}
    for _ in range(2):
        got = door.call("POST", "/v1/submissions", json=body, headers=header)
        assert got.status_code == 202, got.text
    assert door.audit() == [("local", "submission.create", got.json()["id"], 202)] * 2


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


def test_an_ending_that_cannot_be_written_is_logged_and_the_next_one_is_written(
    door: Door, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(door.database)
    first, second = (log.add(AuditEntry("local", name)) for name in ("first", "second"))

    def away(*_: Any) -> None:
        raise OperationalError("UPDATE", {}, Exception("disk full"))

    with monkeypatch.context() as broken:
        broken.setattr(audit_module, "_complete", away)
        log.complete(first, 200)
        log.settle()
    log.complete(second, 202)
    assert [(row.action, row.status) for row in log.newest(2)] == [("second", 202), ("first", None)]
    assert [r.exc_info is not None for r in caplog.records if r.name == audit_module.__name__] == [
        True
    ]


def test_the_end_of_the_process_waits_for_what_is_to_be_written(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = audit_module._complete

    def slow(*given: Any) -> None:
        time.sleep(0.3)
        complete(*given)

    monkeypatch.setattr(audit_module, "_complete", slow)
    with door.api:
        door.call("POST", "/v1/submissions", json={})
    rows = AuditLog(door.database).newest(1)
    assert [(row.action, row.status) for row in rows] == [("submission.create", 422)]
