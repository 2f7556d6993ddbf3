"""Deliveries: written with the change that they tell of, claimed once, kept until through."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.hooks.config import Endpoint, Event
from gate.hooks.github import GitHubContext, PlannedAnswer
from gate.hooks.outbox import Outbox, events_of
from gate.policy import Condition
from gate.store import moves as moves_module
from gate.store import submissions as submissions_module
from gate.store.announcing import announce, answer_rows
from gate.store.database import open_database
from gate.store.deliveries import Delivery, DeliveryRecord
from gate.store.hook_tables import DeliveryRow
from gate.store.submissions import SubmissionRecord
from gate.submission import State, SubmissionRequest
from gate.verdict import decide

VERDICT = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.3, 0.4)), DIGESTS
)  # fmt: skip
REQUEST = SubmissionRequest(checkpoint="/c", base="/b", metadata={"git_sha": "4f2"})
LEASE = 60.0


def endpoint(name: str, *events: Event) -> Endpoint:
    return Endpoint(
        name=name, url="https://bot.example/hook", secret_env=["T"], events=list(events)
    )


EVERYTHING = Outbox((endpoint("all", *Event),), "https://gate.example")


@pytest.fixture
def database(tmp_path: Path) -> Engine:
    return open_database(f"sqlite:///{tmp_path / 'record.db'}")


@pytest.fixture
def deliveries(database: Engine) -> DeliveryRecord:
    return DeliveryRecord(database)


def written(deliveries: DeliveryRecord) -> list[tuple[str, str]]:
    """Event and told state of all deliveries, oldest first."""
    found = deliveries.listed(100)[::-1]
    return [(one.event, one.payload["data"]["state"]) for one in found]


def test_without_endpoints_nothing_is_written(database: Engine, deliveries: DeliveryRecord) -> None:
    record = SubmissionRecord(database)
    made = record.create(REQUEST, "api")
    assert record.conclude(made.id, VERDICT)
    assert deliveries.listed(10) == []


def test_every_move_is_told_once_and_a_verdict_twice_over(
    database: Engine, deliveries: DeliveryRecord
) -> None:
    record = SubmissionRecord(database, EVERYTHING)
    made = record.create(REQUEST, "api")
    assert record.move(made.id, State.PREPARING)
    assert not record.move(made.id, State.PREPARING)
    assert record.conclude(made.id, VERDICT)
    assert not record.conclude(made.id, VERDICT)
    assert not record.move(made.id, State.FAILED, error="late")
    assert written(deliveries) == [
        ("submission.state_changed", "queued"),
        ("submission.state_changed", "preparing"),
        ("submission.state_changed", "decided"),
        ("verdict.created", "decided"),
    ]


def test_a_message_of_a_verdict_says_what_a_pipeline_needs(
    database: Engine, deliveries: DeliveryRecord
) -> None:
    record = SubmissionRecord(
        database, Outbox((endpoint("a", Event.VERDICT_CREATED),), "https://g")
    )
    made = record.create(REQUEST, "github")
    record.conclude(made.id, VERDICT)
    (one,) = deliveries.listed(10)
    assert one.payload["type"] == "verdict.created"
    assert datetime.fromisoformat(one.payload["timestamp"]).utcoffset() is not None
    data = one.payload["data"]
    assert (data["submission_id"], data["outcome"]) == (made.id, "fail")
    assert data["verdict"]["release"] == "block"
    assert data["verdict"]["reasons"] == list(VERDICT.reasons)
    assert data["metadata"] == {"git_sha": "4f2"}
    assert data["links"]["report"] == f"https://g/v1/submissions/{made.id}/report"


@pytest.mark.parametrize(
    ("state", "event"),
    [(State.FAILED, "submission.failed"), (State.CANCELLED, "submission.cancelled")],
)
def test_other_ends_have_events_of_their_own(
    database: Engine, deliveries: DeliveryRecord, state: State, event: str
) -> None:
    record = SubmissionRecord(database, EVERYTHING)
    made = record.create(REQUEST, "api")
    record.move(made.id, state, error="the engine died")
    (newest, *_) = deliveries.listed(10)
    assert (newest.event, newest.payload["data"]["error"]) == (event, "the engine died")


def test_every_state_makes_an_event_and_endpoints_get_only_what_they_asked_for(
    database: Engine, deliveries: DeliveryRecord
) -> None:
    assert all(events_of(state)[0] is Event.STATE_CHANGED for state in State)
    outbox = Outbox((endpoint("a", Event.FAILED), endpoint("b", Event.STATE_CHANGED)))
    record = SubmissionRecord(database, outbox)
    record.move(record.create(REQUEST, "api").id, State.FAILED, error="x")
    assert [one.target for one in deliveries.listed(10)][::-1] == ["b", "b", "a"]


def test_the_same_change_always_makes_the_same_message(database: Engine) -> None:
    made = SubmissionRecord(database).create(REQUEST, "api")
    at = datetime.now(UTC)
    first, second = (EVERYTHING.messages(made, at) for _ in range(2))
    assert first == second
    assert len({message.id for message in first}) == len(first)


def test_a_change_that_is_rolled_back_tells_nobody(
    database: Engine, deliveries: DeliveryRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = SubmissionRecord(database, EVERYTHING)
    made = record.create(REQUEST, "api")

    def breaks_after(*given: Any) -> None:
        announce(*given)
        raise RuntimeError("killed before the commit")

    for writes in (submissions_module, moves_module):
        monkeypatch.setattr(writes, "announce", breaks_after)
    for change in (
        lambda: record.move(made.id, State.PREPARING),
        lambda: record.conclude(made.id, VERDICT),
        lambda: record.create(REQUEST, "api"),
    ):
        with pytest.raises(RuntimeError):
            change()
    assert written(deliveries) == [("submission.state_changed", "queued")]
    assert record.get(made.id).state is State.QUEUED


def waiting_review(record: SubmissionRecord) -> str:
    context = GitHubContext(installation_id=1, repository="a/b", environment="production")
    answer = PlannedAnswer(event="github.deployment_review", at_end=True, context=context)
    now = datetime.now(UTC)
    return record.create(REQUEST, "github", rows_with=lambda i: answer_rows(i, [answer], now)).id


@pytest.mark.parametrize("end", [State.DECIDED, State.FAILED, State.CANCELLED])
def test_an_answer_to_github_starts_with_the_end_of_its_submission(
    database: Engine, deliveries: DeliveryRecord, end: State
) -> None:
    record = SubmissionRecord(database)
    made, other = waiting_review(record), waiting_review(record)
    record.move(made, State.SAMPLING)
    assert deliveries.due() == 0
    assert record.conclude(made, VERDICT) if end is State.DECIDED else record.move(made, end)
    claimed = deliveries.claim(LEASE, 2)
    assert claimed is not None
    assert claimed.submission_id == made
    assert [one.submission_id for one in deliveries.listed(9, state="waiting")] == [other]


@pytest.fixture
def pending(database: Engine) -> Callable[..., None]:
    """Writes pending deliveries that have been due for a while."""

    def write(count: int, target: str = "a") -> None:
        made = SubmissionRecord(database).create(REQUEST, "api")
        with Session(database) as session, session.begin():
            for number in range(count):
                session.add(
                    DeliveryRow(
                        kind="webhook", target=target, message_id=f"msg_{target}{number}",
                        event="verdict.created", submission_id=made.id, payload={}, state="pending",
                        attempts=0, next_attempt_at=made.created_at, created_at=made.created_at,
                    )
                )  # fmt: skip

    return write


def take(deliveries: DeliveryRecord, lease: float = LEASE, at_once: int = 9) -> Delivery:
    claimed = deliveries.claim(lease, at_once)
    assert claimed is not None
    return claimed


def test_of_many_senders_one_gets_a_delivery(
    database: Engine, deliveries: DeliveryRecord, pending: Callable[..., None]
) -> None:
    pending(3)
    together = Barrier(8)

    def claim(_: int) -> Delivery | None:
        own = DeliveryRecord(database)
        together.wait()
        return own.claim(LEASE, 9)

    with ThreadPoolExecutor(8) as pool:
        got = [one.id for one in pool.map(claim, range(8)) if one is not None]
    assert sorted(got) == sorted(set(got))
    assert len(got) == 3


def test_a_sender_that_died_leaves_its_delivery_to_the_next_as_one_more_attempt(
    deliveries: DeliveryRecord, pending: Callable[..., None]
) -> None:
    pending(1)
    first = take(deliveries, lease=-1)
    second = take(deliveries)
    assert (first.id, first.attempts) == (second.id, 1)
    assert second.attempts == 2
    assert first.message_id == second.message_id
    assert deliveries.claim(LEASE, 9) is None


def test_a_sender_that_comes_back_late_cannot_undo_what_the_next_one_noted(
    deliveries: DeliveryRecord, pending: Callable[..., None]
) -> None:
    pending(1)
    late, second = take(deliveries, lease=-1), take(deliveries)
    assert not deliveries.failed(late, 500, "late", None)
    deliveries.delivered(second, 200)
    assert not deliveries.failed(second, 500, "confused", None)
    assert deliveries.listed(1)[0].state == "delivered"


def test_a_slow_receiver_holds_no_more_than_its_share(
    deliveries: DeliveryRecord, pending: Callable[..., None]
) -> None:
    pending(5, "slow")
    pending(1, "quick")
    assert [take(deliveries, at_once=2).target for _ in range(3)] == ["slow", "slow", "quick"]
    assert deliveries.claim(LEASE, 2) is None


def test_a_failure_waits_and_the_last_one_is_a_dead_letter(
    deliveries: DeliveryRecord, pending: Callable[..., None]
) -> None:
    pending(2)
    again = datetime(2099, 1, 1, tzinfo=UTC)
    assert deliveries.failed(take(deliveries), 503, "busy", again)
    assert deliveries.failed(take(deliveries), None, "no\0answer", None)
    dead, waits = deliveries.listed(10)
    assert (waits.state, waits.next_attempt_at, waits.last_status) == ("pending", again, 503)
    assert (dead.state, dead.next_attempt_at, dead.last_error) == ("dead", None, "no\ufffdanswer")
    assert deliveries.counts() == {"a": {"pending": 1, "dead": 1}}
    assert deliveries.due() == 0


def test_a_dead_letter_is_sent_again_under_its_id(
    deliveries: DeliveryRecord, pending: Callable[..., None]
) -> None:
    pending(1)
    first = take(deliveries)
    deliveries.failed(first, 500, "x", None)
    assert deliveries.resend([first.id, 4711]) == [first.id]
    again = take(deliveries)
    assert (again.message_id, again.attempts) == (first.message_id, 1)


def test_what_waits_for_the_end_of_its_submission_cannot_be_sent_early(
    database: Engine, deliveries: DeliveryRecord
) -> None:
    waiting_review(SubmissionRecord(database))
    (one,) = deliveries.listed(1)
    assert deliveries.resend([one.id]) == []


def test_a_target_that_is_gone_gets_nothing_of_what_waits(
    deliveries: DeliveryRecord, pending: Callable[..., None]
) -> None:
    pending(2, "gone")
    pending(1, "other")
    assert deliveries.give_up_target("gone", "answered 410") == 2
    assert deliveries.counts() == {"gone": {"dead": 2}, "other": {"pending": 1}}


def test_a_delivery_that_is_put_off_counts_no_attempt(
    deliveries: DeliveryRecord, pending: Callable[..., None]
) -> None:
    pending(1)
    deliveries.put_off(take(deliveries), -1, "not yet")
    assert take(deliveries).attempts == 1
