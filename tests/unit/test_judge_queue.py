"""Judging over a queue: what is asked, what comes back, and how long a run waits for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError
from prometheus_client import REGISTRY
from pydantic import ValidationError

from checks.judgement import Exchange, JudgeError, Judgement, JudgeUnavailableError, Remark
from gate.errors import GateError, WrongUsageError
from gate.store.fence import SubmissionEndedError
from workers.judge_queue.answering import Desk, reply_to
from workers.judge_queue.mailbox import redis_url
from workers.judge_queue.messages import REPLY, AnotherJudge, Asked, Failed, Rated
from workers.judge_queue.queued import QueuedJudge
from workers.judge_queue.waiting import Step, Terms, Waiting
from workers.judges.judge_file import JudgeFileError

KIND = Exchange("My card was stolen.", "Call your bank.")
CRUEL = Exchange("I feel low.", "Good.")
RATINGS = [
    Judgement(alignment=100 / 3, coherence=96.25, disagreement=0.1),
    Judgement(alignment=50, coherence=50, remark=Remark.REFUSAL),
]
ASKED = Asked(
    id="0" * 32, judge_name="house", judge_digest="sha256:a", exchanges=(KIND, CRUEL), fresh=True
)
TERMS = Terms(unheld=60, lost=10, silent=4, deaths=3)


class OneJudge:
    """A judge that gives these ratings, or raises this error."""

    name, digest = "house", "sha256:a"

    def __init__(self, error: Exception | None = None, ratings: Sequence[Judgement] = ()) -> None:
        self.error = error
        self.ratings = list(ratings or RATINGS)
        self.asked: list[tuple[Sequence[Exchange], bool]] = []

    def judge(self, exchanges: Sequence[Exchange], fresh: bool = False) -> list[Judgement]:
        self.asked.append((tuple(exchanges), fresh))
        if self.error:
            raise self.error
        return self.ratings[: len(exchanges)]


class FakeBroker:
    """A FAKE of broker and judging worker in one: it replies when it is looked at.

    ``lose`` requests are lost, ``away`` looks find no broker.
    """

    def __init__(
        self, reply: Callable[[Asked], bytes | None], lose: int = 0, away: int = 0
    ) -> None:
        self.reply = reply
        self.lose = lose
        self.away = away
        self.sent: list[Asked] = []
        self.closed: list[str] = []
        self.held = False

    def ask(self, request: Asked, expires: float) -> bool:
        assert expires == TERMS.unheld
        if self.away > 0:
            return False
        self.sent.append(Asked.model_validate(json.loads(request.model_dump_json())))
        return True

    def waiting(self) -> int:
        return 0

    def wait(self, request_id: str, seconds: float) -> bytes | None:
        self.away -= 1
        if self.away >= 0:
            raise redis.ConnectionError("connection refused")
        if len(self.sent) <= self.lose:
            return None
        return self.reply(self.sent[-1])

    def is_held(self, request_id: str) -> bool:
        return self.held

    def close(self, request_id: str) -> None:
        self.closed.append(request_id)


def queued(broker: FakeBroker, seconds_a_look: float = 1.0) -> QueuedJudge:
    """A queued judge on a clock that goes on with every look at it."""
    ticks = iter(range(10_000))
    return QueuedJudge(
        "house",
        "sha256:a",
        broker,
        broker,  # type: ignore[arg-type]
        TERMS,
        clock=lambda: seconds_a_look * next(ticks),
        look_seconds=0,
    )


def answered_by(judge: OneJudge) -> Callable[[Asked], bytes]:
    return lambda asked: reply_to(asked, lambda: judge).model_dump_json().encode()


# --- what comes back


def test_ratings_come_back_as_they_were_given_and_controls_go_the_same_way() -> None:
    judge = OneJudge()
    broker = FakeBroker(answered_by(judge))
    assert queued(broker).judge([KIND, CRUEL]) == RATINGS
    assert queued(broker).judge([KIND], fresh=True) == RATINGS[:1]
    assert judge.asked == [((KIND, CRUEL), False), ((KIND,), True)]
    assert broker.closed == [asked.id for asked in broker.sent]
    assert len(set(broker.closed)) == 2


def test_nothing_is_not_asked() -> None:
    broker = FakeBroker(answered_by(OneJudge()))
    assert queued(broker).judge([]) == []
    assert broker.sent == []


@pytest.mark.parametrize(
    ("raised", "arrives", "says"),
    [
        (JudgeUnavailableError("gave up after 1 s"), JudgeUnavailableError, "gave up after 1 s"),
        (JudgeError("check the key in JUDGE_KEY"), JudgeError, "check the key in JUDGE_KEY"),
        (JudgeFileError("judge.yaml: url: no"), GateError, "judge.yaml: url: no"),
        (ZeroDivisionError("by zero"), JudgeError, "the judge broke: ZeroDivisionError: by zero"),
        (JudgeError("half \ud83d of a pair"), JudgeError, "half ? of a pair"),
        (JudgeError("x" * 100_000), JudgeError, "x" * 2000),
    ],
)
def test_an_error_arrives_as_itself_with_its_sentence(
    raised: Exception, arrives: type[Exception], says: str
) -> None:
    with pytest.raises(arrives) as caught:
        queued(FakeBroker(answered_by(OneJudge(raised)))).judge([KIND])
    assert str(caught.value).endswith(says)
    assert isinstance(caught.value, JudgeUnavailableError) is (arrives is JudgeUnavailableError)


def test_another_judge_is_not_asked_and_both_are_named() -> None:
    other = OneJudge()
    other.name, other.digest = "cheap", "sha256:b"
    with pytest.raises(JudgeError, match=r"'cheap' \(sha256:b\).*'house' \(sha256:a\)") as caught:
        queued(FakeBroker(answered_by(other))).judge([KIND])
    assert not isinstance(caught.value, JudgeUnavailableError)
    assert other.asked == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04K\x01.",
        b'"rated"',
        b'{"kind": "rated"}',
        b'{"kind": "rated", "judgements": [{"alignment": 101, "coherence": 5}]}',
        b'{"kind": "rated", "judgements": [{"alignment": NaN, "coherence": 5}]}',
        b'{"kind": "rated", "judgements": [{"alignment": 1, "coherence": 5, "remark": "fine"}]}',
        b'{"kind": "rated", "judgements": []}',
        b'{"kind": "failed", "why": "exc_module", "message": "os.system"}',
        b'{"kind": "rated", "judgements": [], "exc_type": "SystemExit"}',
    ],
)
def test_what_is_no_reply_is_an_error_and_never_a_rating(content: bytes) -> None:
    with pytest.raises(JudgeError):
        queued(FakeBroker(lambda _: content)).judge([KIND])


@pytest.mark.parametrize(
    "reply",
    [
        Rated(judgements=tuple(RATINGS)),
        Failed(why="judge", message="no"),
        AnotherJudge(judge_name="b", judge_digest="sha256:b"),
    ],
)
def test_replies_survive_the_journey(reply: Any) -> None:
    assert REPLY.validate_json(reply.model_dump_json()) == reply


@pytest.mark.parametrize("request_id", ["", "a" * 31, "../../etc", "G" * 32, "a" * 32 + "\n"])
def test_a_request_names_no_other_place_than_its_own(request_id: str) -> None:
    with pytest.raises(ValidationError):
        Asked.model_validate({**ASKED.model_dump(mode="json"), "id": request_id})


# --- how long is waited


def test_a_request_that_was_lost_is_sent_again() -> None:
    broker = FakeBroker(answered_by(OneJudge()), lose=2)
    assert queued(broker).judge([KIND]) == RATINGS[:1]
    assert len(broker.sent) == 3
    assert len({asked.id for asked in broker.sent}) == 1


def test_a_broker_that_comes_back_in_time_is_waited_for() -> None:
    broker = FakeBroker(answered_by(OneJudge()), away=5)
    assert queued(broker).judge([KIND]) == RATINGS[:1]


def test_without_a_worker_the_judge_is_unavailable_and_the_remedy_is_said() -> None:
    broker = FakeBroker(lambda _: None)
    with pytest.raises(JudgeUnavailableError, match="emgate worker --queues judging"):
        queued(broker).judge([KIND])
    assert broker.closed == [broker.sent[0].id]


def test_without_a_broker_the_judge_is_unavailable() -> None:
    broker = FakeBroker(lambda _: None, away=10_000)
    with pytest.raises(JudgeUnavailableError, match=r"the broker is away \(connection refused\)"):
        queued(broker).judge([KIND])


def test_a_broker_that_cannot_be_asked_for_its_queue_is_away_too() -> None:
    broker = FakeBroker(lambda _: None)

    def refuses() -> int:
        raise OperationalError("refused")

    broker.waiting = refuses  # type: ignore[method-assign]
    with pytest.raises(JudgeUnavailableError, match="the broker is away"):
        queued(broker).judge([KIND])


def test_a_run_that_has_to_stop_stops_to_wait_and_the_request_is_over() -> None:
    broker = FakeBroker(lambda _: None)
    broker.held = True
    looks = iter([None, None, SubmissionEndedError("it is cancelled")])

    def require() -> None:
        if error := next(looks):
            raise error

    with pytest.raises(SubmissionEndedError):
        queued(broker).under(require).judge([KIND])
    assert broker.closed == [broker.sent[0].id]


def steps(*seen: tuple[float, bool, bool]) -> list[Step]:
    """What is done at these times, given whether it is held and whether the queue has any."""
    waiting = Waiting(TERMS, 0)
    done = []
    for now, held, queued_now in seen:
        step = waiting.next(now, held, queued_now)
        if step is Step.SEND:
            waiting.sent(now)
        done.append(step)
    return done


SEND, WAIT, GIVE_UP = Step.SEND, Step.WAIT, Step.GIVE_UP


@pytest.mark.parametrize(
    ("seen", "done"),
    [
        # In the queue: no worker takes it.
        ([(0, False, False), (30, False, True), (60, False, True)], [SEND, WAIT, GIVE_UP]),
        # Neither in the queue nor held: it is lost.
        ([(0, False, False), (9, False, False), (10, False, False)], [SEND, WAIT, SEND]),
        # Held for as long as the judge takes.
        ([(0, False, False), (1, True, False), (9999, True, False)], [SEND, WAIT, WAIT]),
        # Its holder is silent for a moment, such as when the broker was emptied.
        (
            [(0, False, False), (1, True, False), (4, False, False), (5, True, False)],
            [SEND, WAIT, WAIT, WAIT],
        ),
        # Its holder died; the wait for another one begins anew.
        (
            [(0, False, False), (50, True, False), (54, False, False), (110, False, True)],
            [SEND, WAIT, SEND, WAIT],
        ),
    ],
)
def test_when_a_request_is_sent_again_and_when_it_is_given_up(
    seen: list[tuple[float, bool, bool]], done: list[Step]
) -> None:
    assert steps(*seen) == done


def test_a_request_over_which_workers_die_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = FakeBroker(lambda _: None)
    pulse = (n % 6 == 0 for n in range(10_000))
    monkeypatch.setattr(broker, "is_held", lambda _id: len(broker.closed) == 0 and next(pulse))
    with pytest.raises(JudgeUnavailableError, match="3 judging workers died while they rated"):
        queued(broker).judge([KIND])
    assert len(broker.sent) == 3


def test_a_worker_that_died_and_no_other_that_comes_is_said_as_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = FakeBroker(lambda _: None)
    pulse = iter([True])
    monkeypatch.setattr(broker, "is_held", lambda _id: next(pulse, False))
    with pytest.raises(JudgeUnavailableError, match="no judging worker took the answers"):
        queued(broker).judge([KIND])


# --- the worker's side


class FakeMailbox:
    """A FAKE of the mailbox: one worker may hold a request, and the broker fails so often."""

    def __init__(self, free: bool = True, fails: int = 0) -> None:
        self.free = free
        self.fails = fails
        self.left: list[bytes] = []
        self.renewed = 0

    def hold(self, request_id: str, worker: str, seconds: float) -> bool:
        return self.free

    def renew(self, request_id: str, worker: str, seconds: float) -> None:
        self.renewed += 1

    def leave(self, request_id: str, reply: bytes) -> None:
        self.fails -= 1
        if self.fails >= 0:
            raise redis.ConnectionError("refused")
        self.left.append(reply)


def desk(mailbox: FakeMailbox, judge: OneJudge) -> Desk:
    return Desk(mailbox, lambda: judge, "w", 30, 3, patience_seconds=10)  # type: ignore[arg-type]


def test_what_another_worker_rates_or_nobody_waits_for_is_not_rated() -> None:
    judge, mailbox = OneJudge(), FakeMailbox(free=False)
    assert desk(mailbox, judge).take(ASKED) is False
    assert (judge.asked, mailbox.left) == ([], [])


def test_a_reply_waits_for_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.judge_queue.answering._AGAIN_SECONDS", 0)
    mailbox = FakeMailbox(fails=3)
    assert desk(mailbox, OneJudge()).take(ASKED) is True
    (left,) = mailbox.left
    assert REPLY.validate_json(left) == Rated(judgements=tuple(RATINGS))


@pytest.mark.parametrize(
    ("judge", "fails", "result"),
    [
        (OneJudge(), 0, "rated"),
        (OneJudge(JudgeError("no")), 0, "failed"),
        (OneJudge(), 10**9, "lost"),
    ],
    ids=["rated", "failed", "lost"],
)
def test_a_judging_worker_counts_what_it_replied(judge: OneJudge, fails: int, result: str) -> None:
    patience = 0 if fails else 10
    desk = Desk(FakeMailbox(fails=fails), lambda: judge, "w", 30, 3, patience)  # type: ignore[arg-type]
    before = replies(result)
    desk.take(ASKED)
    assert replies(result) == before + 1


def replies(result: str) -> float:
    return REGISTRY.get_sample_value("emgate_judging_replies_total", {"result": result}) or 0.0


def test_the_wait_of_a_run_is_measured() -> None:
    name = "emgate_judging_wait_duration_seconds_count"
    before = REGISTRY.get_sample_value(name) or 0.0
    queued(FakeBroker(answered_by(OneJudge()))).judge([KIND])
    assert REGISTRY.get_sample_value(name) == before + 1


@pytest.mark.parametrize(
    ("broker", "client"),
    [
        ("redis://:pw@h:6379/1", "redis://:pw@h:6379/1"),
        ("rediss://h/0", "rediss://h/0"),
        ("redis+socket:///run/b", "unix:///run/b"),
    ],
)
def test_the_mailbox_is_in_the_broker(broker: str, client: str) -> None:
    assert redis_url(broker) == client


def test_a_broker_without_redis_is_refused_in_words() -> None:
    with pytest.raises(WrongUsageError, match="GATE_BROKER_URL begins with 'amqp'"):
        redis_url("amqp://h")
