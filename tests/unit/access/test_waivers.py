"""Waivers over HTTP."""

from __future__ import annotations

import pytest
from unit.access.door import PASS, REASON, Door, problem, soon

from gate.access.scopes import Scope
from gate.submission import SubmissionRequest


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
