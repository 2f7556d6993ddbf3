"""Waivers: what may be waived, for how long, and what one changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.access.waivers import (
    NotWaivableError,
    Waiver,
    WaiverRequest,
    WaiverState,
    check_expiry,
    released,
)
from gate.errors import WrongUsageError
from gate.policy import Condition, Release
from gate.report import render_report
from gate.store.audit import AuditLog
from gate.store.database import open_database
from gate.store.submissions import SubmissionRecord, UnknownSubmissionError
from gate.store.waivers import UnknownWaiverError, WaiverStore
from gate.submission import State, SubmissionRequest
from gate.verdict import Verdict, decide

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
REASON = "accepted for the pilot, SEC-41"


def verdict(lower: float, upper: float, **changes: object) -> Verdict:
    wanted = policy(Condition(check="a", at_most=0.2), **changes)
    return decide(wanted, evidence(measurement("a", lower, upper)), DIGESTS)


FAIL, OPEN, PASS = verdict(0.3, 0.4), verdict(0.1, 0.4), verdict(0.0, 0.1)
OPEN_ALLOWED = verdict(0.1, 0.4, inconclusive=Release.ALLOW)


def waiver(**changes: object) -> Waiver:
    fields = {
        "id": "wav_1", "submission_id": "sub_1", "granted_by": "key:lead:aa", "reason": REASON,
        "created_at": NOW, "expires_at": NOW + HOUR, "revoked_at": None, "revoked_by": None,
        **changes,
    }  # fmt: skip
    return Waiver.model_validate(fields)


class Gate:
    def __init__(self, home: Path) -> None:
        database = open_database(f"sqlite:///{home / 'gate.db'}")
        self.submissions, self.waivers = SubmissionRecord(database), WaiverStore(database)
        self.audit = AuditLog(database)

    def decided(self, given: Verdict) -> str:
        made = self.submissions.create(SubmissionRequest(checkpoint="/c"), "api")
        self.submissions.conclude(made.id, given)
        return made.id

    def grant(self, submission_id: str, ahead: timedelta = HOUR, audited: bool = False) -> Waiver:
        wanted = WaiverRequest(reason=REASON, expires_at=datetime.now(UTC) + ahead)
        return self.waivers.grant(submission_id, wanted, "cli:ada", 30, audited)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def test_only_a_waiver_in_force_releases_what_the_verdict_blocks() -> None:
    assert not released(FAIL, [], NOW)
    assert released(FAIL, [waiver()], NOW)
    assert not released(FAIL, [waiver()], NOW + HOUR)
    assert not released(FAIL, [waiver(revoked_at=NOW, revoked_by="x")], NOW)
    assert released(PASS, [], NOW)
    assert released(OPEN_ALLOWED, [], NOW)


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.booleans()), max_size=5),
    st.sampled_from([FAIL, OPEN]),
)
def test_ended_waivers_change_nothing(drawn: list[tuple[int, bool]], given: Verdict) -> None:
    waivers = [
        waiver(expires_at=NOW + hours * HOUR, revoked_at=NOW if revoked else None)
        for hours, revoked in drawn
    ]
    in_force = [w for w in waivers if w.state(NOW) is WaiverState.ACTIVE]
    assert released(given, waivers, NOW) == bool(in_force)
    assert len(in_force) == sum(hours > 0 and not revoked for hours, revoked in drawn)


@pytest.mark.parametrize("reason", ["", "   ", "too short", " " * 20 + "short", "x" * 2001])
def test_a_waiver_needs_a_reason(reason: str) -> None:
    with pytest.raises(ValidationError, match="reason"):
        WaiverRequest(reason=reason, expires_at=NOW)


def test_an_expiry_has_a_zone_is_in_the_future_and_not_too_far_away() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        WaiverRequest(reason=REASON, expires_at=NOW.replace(tzinfo=None))
    assert check_expiry(NOW + timedelta(days=30), NOW, 30) == NOW + timedelta(days=30)
    with pytest.raises(WrongUsageError, match="ended already"):
        check_expiry(NOW, NOW, 30)
    with pytest.raises(WrongUsageError, match="at most 30 days"):
        check_expiry(NOW + timedelta(days=30, seconds=1), NOW, 30)


@pytest.mark.parametrize("given", [FAIL, OPEN], ids=["fail", "inconclusive"])
def test_a_blocking_verdict_can_be_waived_and_stays_what_it_is(gate: Gate, given: Verdict) -> None:
    submission = gate.decided(given)
    made = gate.grant(submission)
    assert gate.waivers.of(submission) == [made]
    assert gate.submissions.verdict(submission) == given
    assert gate.submissions.get(submission).outcome == given.outcome.value


@pytest.mark.parametrize(
    ("given", "says"), [(PASS, "needs no waiver"), (OPEN_ALLOWED, "releases on inconclusive")]
)
def test_a_verdict_that_releases_needs_no_waiver(gate: Gate, given: Verdict, says: str) -> None:
    with pytest.raises(NotWaivableError, match=says):
        gate.grant(gate.decided(given))
    assert gate.waivers.all() == []


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (State.SAMPLING, "no verdict yet"),
        (State.CANCELLED, "cancelled"),
        (State.FAILED, "nobody knows what would be waived"),
    ],
)
def test_without_a_verdict_there_is_nothing_to_waive(gate: Gate, state: State, says: str) -> None:
    made = gate.submissions.create(SubmissionRequest(checkpoint="/c"), "api")
    gate.submissions.move(made.id, state, error="broken" if state is State.FAILED else None)
    with pytest.raises(NotWaivableError, match=says):
        gate.grant(made.id)
    with pytest.raises(UnknownSubmissionError):
        gate.grant("sub_nope")
    assert gate.waivers.all() == []


def test_a_revoked_waiver_stays_in_the_record_and_its_end_is_told_once(gate: Gate) -> None:
    made = gate.grant(gate.decided(FAIL), audited=True)
    ended = gate.waivers.revoke(made.id, "cli:bob", audited=True)
    assert (ended.state(datetime.now(UTC)), ended.revoked_by) == (WaiverState.REVOKED, "cli:bob")
    assert gate.waivers.revoke(made.id, "cli:eve", audited=True) == ended
    assert gate.waivers.all() == [ended]
    actions = [(row.action, row.actor) for row in gate.audit.newest(9)]
    assert actions == [("waiver.revoke", "cli:bob"), ("waiver.grant", "cli:ada")]
    with pytest.raises(UnknownWaiverError):
        gate.waivers.revoke("wav_nope", "cli:bob")


def test_waivers_are_counted_by_policy_as_the_record_has_them(gate: Gate) -> None:
    kept, ended = gate.grant(gate.decided(FAIL)), gate.grant(gate.decided(OPEN))
    gate.waivers.revoke(ended.id, "cli:ada")
    assert gate.waivers.counts(datetime.now(UTC)) == ({"default": 2}, {"default": 1})
    assert gate.waivers.counts(kept.expires_at) == ({"default": 2}, {"default": 0})


def test_the_report_shows_who_released_why_and_until_when(gate: Gate) -> None:
    submission = gate.submissions.get(gate.decided(FAIL))
    hostile = waiver(reason="<script>alert(1)</script> and more")
    current = waiver(expires_at=datetime.now(UTC) + HOUR)
    page = render_report(submission, FAIL, [], [current, hostile])
    assert "released all the same" in page
    assert "key:lead:aa" in page
    assert REASON in page
    assert "expired" in page
    assert "<script" not in page
    assert "Waivers" not in render_report(submission, FAIL, [])
