"""Who holds a submission may write for it, on SQLite and PostgreSQL; nobody else can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from fakes.gate import until
from postgresql import PostgreSQL, postgresql
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from unit.builders import answer
from unit.test_record import REQUEST, VERDICT, OneJudge

from checks.judgement import Judgement
from gate.store.database import open_database
from gate.store.fence import Holder, LeaseLostError, RunInterruptedError, SubmissionEndedError
from gate.store.judges import JudgeStore
from gate.store.submissions import SubmissionRecord
from gate.store.transcripts import TranscriptRecord
from gate.submission import Progress, State
from workers.lease import lease
from workers.taking import sweep

RATING = Judgement(alignment=90, coherence=90)
TABLES = ("samples", "judgements", "controls", "verdicts", "attempts", "transcripts")


@pytest.fixture
def database(database_url: str) -> Engine:
    return open_database(database_url)


@pytest.fixture
def record(database: Engine) -> SubmissionRecord:
    return SubmissionRecord(database)


def counts(database: Engine) -> dict[str, int]:
    with database.connect() as connection:
        return {
            name: int(connection.scalar(text(f"SELECT count(*) FROM {name}")) or 0)
            for name in TABLES
        }


@dataclass
class Writer:
    """Everything that a run writes, for one holder."""

    database: Engine
    holder: Holder
    transcript: str
    sample: int
    writes: dict[str, Callable[[], object]] = field(init=False)

    def __post_init__(self) -> None:
        submission_id = self.holder.submission_id
        record = SubmissionRecord(self.database).under(self.holder, 1)
        transcripts = TranscriptRecord(self.database).under(self.holder, 1)
        judges = JudgeStore(self.database).under(self.holder, 1)
        self.writes = {
            "samples": lambda: transcripts.add(self.transcript, [answer("b")]),
            "judgements": lambda: transcripts.add_judgements(
                OneJudge(),  # type: ignore[arg-type]
                {self.sample: RATING},
            ),
            "controls": lambda: judges.add_controls(submission_id, "sha256:j", {"g1": RATING}),
            "transcript": lambda: transcripts.open("new", "sha256:a", "sha256:b", "vllm"),
            "attempt": lambda: record.begin_attempt(submission_id, "w"),
            "attached": lambda: record.attach(submission_id, self.transcript, None),
            "progress": lambda: record.note_progress(
                submission_id, Progress(done=1, total=2, what="samples")
            ),
            "state": lambda: record.move(submission_id, State.SAMPLING),
            "postponed": lambda: record.postpone(submission_id, 1),
            "failed": lambda: record.move(submission_id, State.FAILED, error="why"),
            "verdict": lambda: record.conclude(submission_id, VERDICT),
        }


@pytest.fixture
def writer(database: Engine, record: SubmissionRecord) -> Writer:
    """A holder, and a transcript with one sample to write about."""
    made = record.create(REQUEST, "api")
    holder = Holder(made.id, "worker/1")
    assert record.acquire(made.id, holder.token, 60)
    transcripts = TranscriptRecord(database)
    transcript = transcripts.open(made.id, "sha256:a", "sha256:b", "vllm")
    transcripts.add(transcript, [answer("a")])
    (sample,) = transcripts.unjudged(transcript, OneJudge.digest, ["free-form"])
    return Writer(database, holder, transcript, sample)


@pytest.mark.parametrize(
    "what",
    [
        "samples",
        "judgements",
        "controls",
        "transcript",
        "attempt",
        "attached",
        "progress",
        "state",
        "postponed",
        "failed",
        "verdict",
    ],
)
def test_what_a_holder_writes_is_refused_once_another_holds_it(
    database: Engine, record: SubmissionRecord, writer: Writer, what: str
) -> None:
    submission_id = writer.holder.submission_id
    record.release(submission_id, writer.holder.token)
    assert record.acquire(submission_id, "worker/2", 60)
    before, counted = record.get(submission_id), counts(database)

    with pytest.raises(LeaseLostError, match="held by another worker"):
        writer.writes[what]()

    assert record.get(submission_id) == before
    assert counts(database) == counted


def test_whoever_holds_it_may_write_everything(
    database: Engine, record: SubmissionRecord, writer: Writer
) -> None:
    for what, write in writer.writes.items():
        if what not in {"failed", "postponed"}:
            write()
    got = record.get(writer.holder.submission_id)
    assert (got.state, got.attempts) == (State.DECIDED, 1)
    assert counts(database) == {
        "samples": 2,
        "judgements": 1,
        "controls": 1,
        "verdicts": 1,
        "attempts": 1,
        "transcripts": 2,
    }


def test_a_lease_that_the_same_worker_takes_anew_does_not_open_the_old_one(
    record: SubmissionRecord, database: Engine
) -> None:
    made = record.create(REQUEST, "api")
    with lease(record, made.id, "worker") as first:
        assert first
    with lease(record, made.id, "worker") as second:
        assert second
        with pytest.raises(LeaseLostError):
            SubmissionRecord(database).under(first.holder, 1).conclude(made.id, VERDICT)
        assert SubmissionRecord(database).under(second.holder, 1).conclude(made.id, VERDICT)


def test_a_takeover_waits_for_the_write_that_was_first(
    database: Engine, record: SubmissionRecord, writer: Writer
) -> None:
    """Whichever comes first, the other one loses: never both."""
    submission_id = writer.holder.submission_id

    def write() -> bool:
        try:
            return bool(writer.writes["verdict"]())
        except LeaseLostError:
            return False

    def take_over() -> bool:
        record.release(submission_id, writer.holder.token)
        return record.acquire(submission_id, "worker/2", 60)

    with ThreadPoolExecutor(2) as pool:
        written, taken = pool.submit(write), pool.submit(take_over)
        assert written.result() is not taken.result()


def interrupted(require: Callable[[], None]) -> RunInterruptedError | None:
    try:
        require()
    except RunInterruptedError as why:
        return why
    return None


def test_a_heartbeat_notices_that_the_submission_was_cancelled(record: SubmissionRecord) -> None:
    made = record.create(REQUEST, "api")
    with lease(record, made.id, "worker", 60, heartbeat=0.05) as held:
        assert held
        assert interrupted(held.require) is None
        record.move(made.id, State.CANCELLED)
        why = until(lambda: interrupted(held.require), 10)
    assert isinstance(why, SubmissionEndedError)


def test_a_heartbeat_notices_that_another_worker_has_taken_over(
    record: SubmissionRecord, database: Engine
) -> None:
    made = record.create(REQUEST, "api")
    with lease(record, made.id, "worker", 60, heartbeat=0.05) as held:
        assert held
        with database.begin() as connection:
            connection.execute(text("UPDATE submissions SET lease_owner = 'another'"))
        why = until(lambda: interrupted(held.require), 10)
    assert isinstance(why, LeaseLostError)


def test_a_lease_is_lost_when_the_database_is_away_for_as_long_as_it_lasts(
    record: SubmissionRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> State:
        raise OperationalError("UPDATE", {}, Exception("no connection"))

    made = record.create(REQUEST, "api")
    monkeypatch.setattr(record, "renew", away)
    with lease(record, made.id, "worker", 0.3, heartbeat=0.05) as held:
        assert held
        why = until(lambda: interrupted(held.require), 10)
    assert "did not answer for the 0.3 s" in str(why)


@pytest.fixture
def own_postgres() -> Iterator[PostgreSQL]:
    """A server that no other test uses."""
    with postgresql() as server:
        yield server


def test_the_store_of_a_run_waits_for_a_database_that_is_killed(own_postgres: PostgreSQL) -> None:
    postgres = own_postgres
    database = open_database(postgres.new_database())
    record = SubmissionRecord(database)
    made = record.create(REQUEST, "api")
    holder = Holder(made.id, "worker/1")
    assert record.acquire(made.id, holder.token, 600)
    transcripts = TranscriptRecord(database)
    transcript = transcripts.open(made.id, "sha256:a", "sha256:b", "vllm")

    postgres.kill()
    with pytest.raises(OperationalError):
        transcripts.add(transcript, [answer("a")])
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(transcripts.under(holder, 180).add, transcript, [answer("a")])
        postgres.start()
        adding.result(200)

    assert transcripts.count(transcript) == 1


@pytest.mark.parametrize("spoiled", ["a\x00b", "\x00", "half \ud83d of a pair", "\udfff\x00"])
def test_what_a_database_refuses_in_an_answer_is_replaced(database: Engine, spoiled: str) -> None:
    transcripts = TranscriptRecord(database)
    transcript = transcripts.open("sub_1", "sha256:a", "sha256:b", "vllm")

    transcripts.add(transcript, [answer("a", text=spoiled)])

    (kept,) = transcripts.samples(transcript)
    assert len(kept.text) == len(spoiled)
    assert kept.text.count("\N{REPLACEMENT CHARACTER}") == sum(
        c in "\x00\ud83d\udfff" for c in spoiled
    )


def test_an_error_message_with_nul_is_kept(record: SubmissionRecord) -> None:
    made = record.create(REQUEST, "api")
    record.move(made.id, State.FAILED, error="the engine said \x00")
    assert record.get(made.id).error == "the engine said \N{REPLACEMENT CHARACTER}"


def test_what_became_of_each_attempt_is_told(record: SubmissionRecord) -> None:
    made = record.create(REQUEST, "api")
    record.begin_attempt(made.id, "w1")
    record.move(made.id, State.SAMPLING)
    record.note_progress(made.id, Progress(done=3, total=9, what="candidate samples"))
    record.begin_attempt(made.id, "w2")
    record.end_attempt(made.id, "failed: no room")
    record.begin_attempt(made.id, "w3")
    record.postpone(made.id, 0)

    assert record.past_attempts(made.id) == [
        "w1 vanished without a word while sampling at 3 of 9 candidate samples",
        "w2 failed: no room",
    ]
    assert record.get(made.id).attempts == 2


class CountingQueue:
    """Stands in for the broker: remembers what was sent."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.sent: list[str] = []

    def depth(self) -> int:
        return self.waiting + len(self.sent)

    def send(self, submission_id: str) -> bool:
        self.sent.append(submission_id)
        return True


def test_the_sweep_sends_what_waits_once_and_only_if_the_broker_is_empty(
    record: SubmissionRecord,
) -> None:
    made = [record.create(REQUEST, "api").id for _ in range(3)]
    record.acquire(made[1], "worker", 60)
    empty, full = CountingQueue(0), CountingQueue(1)

    for queue in (empty, full, empty):
        sweep(record, queue)  # type: ignore[arg-type]

    assert empty.sent == [made[0], made[2]]
    assert full.sent == []
