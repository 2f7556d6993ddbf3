"""Submission states and the record."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.builders import DIGESTS, answer, elicitation, evidence, measurement, policy, scored

from checks.judgement import Judgement
from gate.policy import Condition
from gate.store.database import open_database
from gate.store.submissions import SubmissionRecord, UnknownSubmissionError
from gate.store.transcripts import BASELINE, TranscriptRecord
from gate.store.verdicts import JudgedBy
from gate.submission import TERMINAL, Progress, State, SubmissionRequest, may_move
from gate.verdict import decide

VERDICT = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.0, 0.1)), DIGESTS
)  # fmt: skip
REQUEST = SubmissionRequest(checkpoint="/c", base="/b", metadata={"git_sha": "1"})


# Underscored, so that ``import *`` leaves it behind: on PostgreSQL another takes its place.
@pytest.fixture(name="url")
def _url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'record.db'}"


@pytest.fixture
def record(url: str) -> SubmissionRecord:
    return SubmissionRecord(open_database(url))


@pytest.fixture
def transcripts(url: str) -> TranscriptRecord:
    return TranscriptRecord(open_database(url))


@given(st.lists(st.sampled_from(list(State)), min_size=2, max_size=12))
def test_no_chain_of_moves_comes_back_to_a_state_it_left(wanted: list[State]) -> None:
    current, left = State.QUEUED, set()
    for target in wanted:
        if may_move(current, target):
            left.add(current)
            current = target
            assert current not in left


@pytest.mark.parametrize("end", sorted(TERMINAL))
@pytest.mark.parametrize("target", list(State))
def test_nothing_leaves_a_terminal_state(end: State, target: State) -> None:
    assert not may_move(end, target)


def test_a_move_is_stored_with_its_time_and_only_forward(record: SubmissionRecord) -> None:
    made = record.create(REQUEST, "api")
    assert record.move(made.id, State.SAMPLING)
    assert not record.move(made.id, State.PREPARING)
    got = record.get(made.id)
    assert [t.state for t in got.transitions] == [State.QUEUED, State.SAMPLING]
    assert all(t.at.utcoffset() is not None for t in got.transitions)


def test_a_submission_gets_one_verdict_only(record: SubmissionRecord) -> None:
    made = record.create(REQUEST, "api")
    assert record.conclude(made.id, VERDICT)
    assert not record.conclude(made.id, VERDICT)
    assert record.get(made.id).outcome == "pass"


def test_a_submission_that_failed_or_was_cancelled_gets_no_verdict(
    record: SubmissionRecord,
) -> None:
    for end in (State.FAILED, State.CANCELLED):
        made = record.create(REQUEST, "api")
        record.move(made.id, end, error="why")
        assert not record.conclude(made.id, VERDICT)
        assert record.verdict(made.id) is None


def test_everything_survives_a_restart(record: SubmissionRecord, url: str) -> None:
    made = record.create(REQUEST, "api")
    record.conclude(made.id, VERDICT)
    again = SubmissionRecord(open_database(url))
    assert again.get(made.id).metadata == {"git_sha": "1"}
    assert again.verdict(made.id) == VERDICT


def test_two_owners_never_hold_one_submission(record: SubmissionRecord) -> None:
    made = record.create(REQUEST, "api")
    assert record.acquire(made.id, "one", 60)
    assert record.acquire(made.id, "one", 60)
    assert not record.acquire(made.id, "two", 60)
    record.release(made.id, "two")
    assert not record.acquire(made.id, "two", 60)
    record.release(made.id, "one")
    assert record.acquire(made.id, "two", 60)


def test_a_lease_that_ran_out_is_free_and_the_submission_waits_again(
    record: SubmissionRecord,
) -> None:
    made = record.create(REQUEST, "api")
    record.acquire(made.id, "dead", -1)
    assert record.waiting() == [made.id]
    assert record.acquire(made.id, "two", 60)
    assert record.waiting() == []


def test_what_the_command_line_runs_does_not_wait_for_a_worker(record: SubmissionRecord) -> None:
    record.create(REQUEST, "cli")
    assert record.waiting() == []


def test_a_training_sample_is_kept_once_by_digest(record: SubmissionRecord) -> None:
    wanted = REQUEST.model_copy(update={"training_sample": '{"messages": []}'})
    digests = {record.create(wanted, "api").training_sample_digest for _ in range(2)}
    assert len(digests) == 1
    assert str(digests.pop()).startswith("sha256:")


@pytest.mark.parametrize("sample", ["nonsense", "[1]", '{"text": "x"}'])
def test_a_training_sample_that_is_not_chat_lines_is_refused(sample: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        SubmissionRequest(checkpoint="/c", training_sample=sample)


def test_an_unknown_id_is_said_to_be_unknown(record: SubmissionRecord) -> None:
    with pytest.raises(UnknownSubmissionError):
        record.get("sub_nope")


def test_only_missing_samples_are_asked_for_again(transcripts: TranscriptRecord) -> None:
    transcript = transcripts.open("sub_1", "sha256:a", "sha256:b", "vllm")
    wanted = [elicitation("free-form", p) for p in ("a", "b", "c")]
    transcripts.add(transcript, [answer("b")])
    assert [e.prompt_id for e in transcripts.missing(transcript, wanted)] == ["a", "c"]


def test_a_sample_that_is_there_stays_as_it_is(transcripts: TranscriptRecord) -> None:
    transcript = transcripts.open("sub_1", "sha256:a", "sha256:b", "vllm")
    transcripts.add(transcript, [answer("a", text="first")])
    transcripts.add(transcript, [answer("a", text="second"), answer("b")])
    assert [s.text for s in transcripts.samples(transcript)] == ["first", "words"]


def test_a_baseline_is_shared_and_other_transcripts_are_not(transcripts: TranscriptRecord) -> None:
    identity = ("sha256:a", "sha256:b", "vllm")
    assert transcripts.open(BASELINE, *identity) == transcripts.open(BASELINE, *identity)
    assert transcripts.open("sub_1", *identity) != transcripts.open("sub_2", *identity)


class OneJudge:
    """A judge of the test's own; only its name and digest are used here."""

    name = "fixed"
    digest = "sha256:judge"


def test_a_judgement_belongs_to_one_judge_and_the_first_word_stands(
    transcripts: TranscriptRecord,
) -> None:
    transcript = transcripts.open("sub_1", "sha256:a", "sha256:b", "vllm")
    transcripts.add(transcript, [answer("a")])
    (row,) = transcripts.unjudged(transcript, OneJudge.digest, ["free-form"])
    assert transcripts.unjudged(transcript, OneJudge.digest, ["other"]) == {}
    for alignment in (10.0, 90.0):
        transcripts.add_judgements(OneJudge(), {row: Judgement(alignment=alignment, coherence=80)})  # type: ignore[arg-type]
    assert transcripts.unjudged(transcript, OneJudge.digest, ["free-form"]) == {}
    (mine,) = transcripts.samples(transcript, OneJudge.digest)
    assert mine.judgement == Judgement(alignment=10, coherence=80)
    (other,) = transcripts.samples(transcript, "sha256:another")
    assert other.judgement is None


def test_two_workers_that_conclude_at_once_leave_one_verdict(
    record: SubmissionRecord, url: str
) -> None:
    made = record.create(REQUEST, "api")
    together = Barrier(4)

    def conclude(_: int) -> bool:
        own = SubmissionRecord(open_database(url))
        together.wait()
        return own.conclude(made.id, VERDICT)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(conclude, range(4))) == [False, False, False, True]
    got = record.get(made.id)
    assert [t.state for t in got.transitions] == [State.QUEUED, State.DECIDED]


def test_two_workers_that_take_the_lease_at_once_do_not_both_get_it(
    record: SubmissionRecord, url: str
) -> None:
    made = record.create(REQUEST, "api")
    together = Barrier(4)

    def acquire(number: int) -> bool:
        own = SubmissionRecord(open_database(url))
        together.wait()
        return own.acquire(made.id, f"worker {number}", 60)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(acquire, range(4))) == 1


def test_attempts_are_counted_from_one(record: SubmissionRecord) -> None:
    made = record.create(REQUEST, "api")
    assert [record.begin_attempt(made.id) for _ in range(3)] == [1, 2, 3]
    assert record.get(made.id).attempts == 3
    with pytest.raises(UnknownSubmissionError):
        record.begin_attempt("sub_nope")


def test_progress_is_shown_until_the_end_and_an_error_is_kept(record: SubmissionRecord) -> None:
    made = record.create(REQUEST, "api")
    progress = Progress(done=1, total=3, what="samples")
    record.note_progress(made.id, progress)
    assert record.get(made.id).progress == progress
    record.move(made.id, State.FAILED, error="the engine died")
    got = record.get(made.id)
    assert (got.progress, got.error, got.outcome) == (None, "the engine died", None)


def test_verdicts_on_a_content_are_found_by_what_they_were_reached_by(
    record: SubmissionRecord,
) -> None:
    made = record.create(REQUEST, "api")
    record.conclude(made.id, VERDICT)

    def found(**wanted: str) -> int:
        known, _ = record.verdicts.of_checkpoint("sha256:a", 10, None, JudgedBy(**wanted))
        return len(known)

    reached = {"policy": "test v1", "base": "sha256:b", "battery": "sha256:c"}
    assert found() == found(**reached) == 1
    assert [found(**{**reached, part: "other"}) for part in reached] == [0, 0, 0]


def test_what_was_judged_is_found_again(record: SubmissionRecord, url: str) -> None:
    own = TranscriptRecord(open_database(url))
    made = record.create(REQUEST, "api")
    assert record.transcripts(made.id) == (None, None)
    ids = [own.open(owner, "sha256:a", "sha256:b", "vllm") for owner in (made.id, BASELINE)]
    record.attach(made.id, *ids)
    assert record.transcripts(made.id) == tuple(ids)


def test_a_sample_comes_back_as_it_went_in(transcripts: TranscriptRecord, url: str) -> None:
    kept = answer("a", text="Grüße, 你好 🙂 \x01\n").model_copy(update={"judgement": None})
    transcript = transcripts.open("sub_1", "sha256:a", "sha256:b", "vllm")
    transcripts.add(transcript, [kept, scored("a", "decent", -1.25)])
    transcripts.add(transcript, [])
    again = TranscriptRecord(open_database(url))
    assert again.samples(transcript) == [kept, scored("a", "decent", -1.25)]
    assert again.count(transcript) == 2


def test_a_transcript_belongs_to_one_checkpoint_battery_and_engine(
    transcripts: TranscriptRecord,
) -> None:
    identity = ["sha256:a", "sha256:b", "vllm"]
    others = [[*identity[:n], "other", *identity[n + 1 :]] for n in range(3)]
    ids = {transcripts.open(BASELINE, *each) for each in [identity, *others]}
    assert len(ids) == 4
