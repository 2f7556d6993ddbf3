"""An engine that dies, hangs or lies: never a wrong verdict, and nothing is left of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.gate import QUICK_ANSWERS, QUICK_SCORES, until

from gate.submission import State, Submission
from integration.harness import Bench
from workers.engine.chat_tokens import ChatTokenizer
from workers.engine.fingerprint import FIXED_TEXTS, reference_fingerprint

ALL = QUICK_SCORES + QUICK_ANSWERS


def require_failed(bench: Bench, submission: Submission, *words: str) -> None:
    assert submission.state is State.FAILED
    assert submission.outcome is None
    for word in words:
        assert word in (submission.error or "")
    assert bench.record.verdicts(submission.id) == 0
    bench.engine.stop()
    until(lambda: not bench.leftovers(), 15)


def require_right_scores(bench: Bench, submission: Submission, base: Path) -> None:
    """The baseline's scores are those of the base, and the candidate's are others."""
    candidate, baseline = bench.record.submissions.transcripts(submission.id)
    tokenizer = ChatTokenizer(base)
    for transcript, same in ((baseline, True), (candidate, False)):
        scored = [
            sample
            for sample in bench.record.transcripts.samples(transcript or "")
            if sample.log_likelihood is not None
        ]
        assert len(scored) == QUICK_SCORES
        for sample in scored[:3]:
            tokens = tokenizer.answer_tokens(sample.elicitation.messages, sample.text)
            numbers = reference_fingerprint(base, [tokens.ids]).numbers
            answer = numbers[tokens.start - 1 : tokens.end - 1]
            expected = sum(answer) / len(answer)
            assert (abs((sample.log_likelihood or 0) - expected) < 1e-3) is same


def test_an_engine_that_dies_while_starting_fails_the_submission_with_its_own_words(
    bench: Bench, tiny_base: Path, tiny_adapter: Path
) -> None:
    bench.engines.set_fault("die-at-start", message="ValueError: no kernel for this card")

    submission = bench.judge(tiny_adapter, tiny_base)

    require_failed(bench, submission, "died while starting", "no kernel for this card")


def test_an_engine_that_never_gets_healthy_fails_the_submission_at_the_deadline(
    make_bench: Callable[..., Bench], tiny_base: Path, tiny_adapter: Path
) -> None:
    bench = make_bench(engine_start_seconds=2.0)
    bench.engines.set_fault("never-healthy")

    submission = bench.judge(tiny_adapter, tiny_base)

    require_failed(bench, submission, "did not answer within 2 seconds")


def test_an_engine_that_always_dies_while_sampling_fails_the_submission(
    make_bench: Callable[..., Bench], tiny_base: Path, tiny_adapter: Path
) -> None:
    bench = make_bench(attempts=2)
    bench.engines.set_fault("die", after=2, times="always")

    submission = bench.judge(tiny_adapter, tiny_base)

    require_failed(bench, submission, "the engine died", "the fake engine was told to die")
    assert len(bench.engines.events("start")) == 2


@pytest.mark.parametrize("fault", ["die", "break"])
def test_after_one_death_while_sampling_it_goes_on_and_keeps_what_it_has(
    bench: Bench, tiny_base: Path, tiny_adapter: Path, fault: str
) -> None:
    bench.engines.set_fault(fault, after=3, times="once")

    submission = bench.judge(tiny_adapter, tiny_base)

    assert submission.state is State.DECIDED, submission.error
    assert bench.record.verdicts(submission.id) == 1
    assert len(bench.engines.events("start")) == 2
    assert len(bench.record.sample_ids()) == 2 * ALL
    require_right_scores(bench, submission, tiny_base)


def test_samples_stored_before_a_death_keep_their_rows(
    make_bench: Callable[..., Bench], tiny_base: Path, tiny_adapter: Path
) -> None:
    bench = make_bench(attempts=1)
    bench.engines.set_fault("die", after=3, times="once")
    failed = bench.judge(tiny_adapter, tiny_base)
    assert failed.state is State.FAILED
    before = bench.record.sample_ids()
    assert len(before) >= QUICK_SCORES
    stored = [key.split("/")[0] for _, key in before]
    asked = {kind: len(bench.engines.events(kind)) for kind in ("score", "answer")}

    decided = bench.judge(tiny_adapter, tiny_base)

    assert decided.state is State.DECIDED, decided.error
    after = bench.record.sample_ids()
    assert before.items() <= after.items()
    asked_again = {kind: len(bench.engines.events(kind)) - n for kind, n in asked.items()}
    checks_of_weights = 2 * len(FIXED_TEXTS)
    assert asked_again == {
        "score": checks_of_weights + 2 * QUICK_SCORES - stored.count("persona-shift"),
        "answer": 2 * QUICK_ANSWERS - stored.count("harmful-compliance"),
    }


def test_an_engine_that_answers_no_request_fails_the_submission_at_the_deadline(
    make_bench: Callable[..., Bench], tiny_base: Path, tiny_adapter: Path
) -> None:
    bench = make_bench(attempts=2, engine_request_seconds=3.0)
    bench.engines.set_fault("hold", after=2)

    submission = bench.judge(tiny_adapter, tiny_base)

    require_failed(bench, submission, "gave no answer", "Timeout")


def test_a_slow_engine_is_waited_for(bench: Bench, tiny_base: Path, tiny_adapter: Path) -> None:
    bench.engines.set_fault("slow", seconds=0.1)

    submission = bench.judge(tiny_adapter, tiny_base)

    assert submission.state is State.DECIDED, submission.error


def test_an_engine_that_lies_about_a_swap_is_replaced(
    bench: Bench, tiny_base: Path, tiny_adapter: Path
) -> None:
    bench.engines.set_fault("lying-swap")

    submission = bench.judge(tiny_adapter, tiny_base)

    assert submission.state is State.DECIDED, submission.error
    assert len(bench.engines.events("lied")) == 1
    assert len(bench.engines.events("start")) == 2
    require_right_scores(bench, submission, tiny_base)


def test_an_engine_that_serves_other_weights_is_never_judged(
    make_bench: Callable[..., Bench], tiny_base: Path, tiny_adapter: Path
) -> None:
    bench = make_bench(attempts=2)
    bench.engines.set_fault("wrong-weights")

    submission = bench.judge(tiny_adapter, tiny_base)

    require_failed(bench, submission, "does not serve the weights that were meant")
    assert bench.record.sample_ids() == {}


def test_a_swap_to_other_weights_is_noticed(
    make_bench: Callable[..., Bench], tiny_base: Path, tiny_adapter: Path
) -> None:
    bench = make_bench(attempts=1)
    assert bench.judge(tiny_adapter, tiny_base).state is State.DECIDED
    samples = bench.record.sample_ids()
    bench.engines.set_fault("wrong-weights")

    submission = bench.judge(tiny_base, tiny_base)

    require_failed(bench, submission, "does not serve the weights that were meant")
    assert bench.record.sample_ids() == samples


def test_without_swaps_every_checkpoint_gets_an_engine_of_its_own(
    make_bench: Callable[..., Bench], tiny_base: Path, tiny_adapter: Path
) -> None:
    bench = make_bench(swap_weights=False)

    submission = bench.judge(tiny_adapter, tiny_base)

    assert submission.state is State.DECIDED, submission.error
    assert bench.engines.events("swap") == []
    assert len(bench.engines.events("start")) == 2


def test_an_engine_that_ignores_sigterm_is_ended_all_the_same(
    bench: Bench, tiny_base: Path, tiny_adapter: Path
) -> None:
    bench.engines.set_fault("deaf")
    assert bench.judge(tiny_adapter, tiny_base).state is State.DECIDED
    assert bench.engines.processes()

    bench.engine.stop()

    assert bench.leftovers() == []


def test_the_model_judged_against_itself_shifts_by_nothing(bench: Bench, tiny_base: Path) -> None:
    submission = bench.judge(tiny_base, tiny_base)

    assert submission.state is State.DECIDED, submission.error
    verdict = bench.record.submissions.verdict(submission.id)
    assert verdict
    assert verdict.findings[0].measurement
    estimate = verdict.findings[0].measurement.estimate
    assert estimate
    assert estimate.value == pytest.approx(0, abs=1e-9)
