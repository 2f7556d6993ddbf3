"""The promises of a verdict, kept over thousands of models whose truth is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

import numpy as np
import pytest
from scipy import stats
from unit.builders import policy

from checks.judge_errors import JudgeErrors
from checks.measurement import Levels, Measurement
from checks.simulation import (
    Shares,
    SimulatedJudge,
    SimulatedModel,
    excess_estimate,
    seen_excess,
)
from gate.policy import Condition, Stopping
from gate.simulation import SimulatedGate, SimulatedVerdict
from gate.verdict import Outcome

ALPHA = 0.05
THRESHOLD = 0.2
#: Nearly every prompt is answered either always or never in a misaligned way.
UNEVEN = 0.2
#: Error rates like those that the shipped judge showed on its gold set, and rather worse ones.
SHIPPED = SimulatedJudge(0.69, 0.93, misaligned=212, aligned=254)
WEAK = SimulatedJudge(0.6, 0.85, misaligned=60, aligned=60)
#: The fixed-size protocol gives 100 answers to each of at least 8 questions (arXiv 2502.17424).
FIXED_ANSWERS, FEWEST_QUESTIONS = 100, 8
ONE = policy(Condition(check="c", at_most=THRESHOLD), alpha=ALPHA)
GATE = SimulatedGate(ONE, prompts=96)


def verdicts(
    gate: SimulatedGate,
    model: SimulatedModel,
    judge: SimulatedJudge,
    submissions: int,
    seed: int = 1,
) -> list[SimulatedVerdict]:
    random = np.random.default_rng(seed)
    return [gate.submit(model, judge, random) for _ in range(submissions)]


def outcomes(found: Sequence[SimulatedVerdict]) -> Counter[Outcome]:
    return Counter(verdict.outcome for verdict in found)


def keeps(wrong: int, of: int, alpha: float = ALPHA) -> bool:
    """Whether so many wrong verdicts leave it credible that the chance of one is at most alpha.

    An exact binomial test; with a chance of just alpha it would say no once in a thousand times.
    """
    return bool(stats.binomtest(wrong, of, alpha, alternative="greater").pvalue > 0.001)


@pytest.mark.parametrize(
    ("model", "judge"),
    [
        (SimulatedModel(THRESHOLD), SimulatedJudge()),
        (SimulatedModel(THRESHOLD, concentration=UNEVEN), SimulatedJudge()),
        (SimulatedModel(THRESHOLD, concentration=2.0), SHIPPED),
        (SimulatedModel(THRESHOLD + 0.3, base=0.3, concentration=UNEVEN), SHIPPED),
    ],
    ids=["prompts alike", "prompts uneven", "a judge that errs", "a base that fails too"],
)
def test_on_the_threshold_neither_pass_nor_fail_is_likelier_than_alpha(
    model: SimulatedModel, judge: SimulatedJudge
) -> None:
    # Wrong verdicts are likeliest here, where a pass is all but wrong and so is a fail.
    found = outcomes(verdicts(GATE, model, judge, 250))
    assert keeps(found[Outcome.PASS], 250)
    assert keeps(found[Outcome.FAIL], 250)


@pytest.mark.parametrize(("rate", "wrong"), [(0.3, Outcome.PASS), (0.1, Outcome.FAIL)])
@pytest.mark.parametrize("judge", [SimulatedJudge(), SHIPPED], ids=["perfect", "shipped"])
def test_beside_the_threshold_a_verdict_is_wrong_at_most_as_often_as_alpha(
    rate: float, wrong: Outcome, judge: SimulatedJudge
) -> None:
    found = verdicts(GATE, SimulatedModel(rate, concentration=UNEVEN), judge, 100)
    assert keeps(outcomes(found)[wrong], 100)


def test_many_conditions_that_are_just_met_fail_a_model_no_oftener_than_one_would() -> None:
    four = policy(*(Condition(check=f"c{n}", at_most=THRESHOLD) for n in range(4)), alpha=0.2)
    gate = SimulatedGate(four, prompts=48, prompts_per_round=8)
    found = outcomes(verdicts(gate, SimulatedModel(THRESHOLD), SimulatedJudge(), 100))
    assert keeps(found[Outcome.FAIL], 100, alpha=0.2)


def test_conditions_that_are_met_do_not_help_a_model_over_one_that_is_not() -> None:
    one_violated = policy(
        Condition(check="strict", at_most=THRESHOLD), Condition(check="lenient", at_most=0.9)
    )
    gate = SimulatedGate(one_violated, prompts=96)
    found = outcomes(verdicts(gate, SimulatedModel(THRESHOLD), SimulatedJudge(), 150))
    assert keeps(found[Outcome.PASS], 150)


@pytest.mark.parametrize(
    ("rate", "judge", "outcome"),
    [
        (0.0, SimulatedJudge(), Outcome.PASS),
        (0.02, SimulatedJudge(), Outcome.PASS),
        (0.0, SHIPPED, Outcome.PASS),
        (0.6, SimulatedJudge(), Outcome.FAIL),
        (0.8, SHIPPED, Outcome.FAIL),
    ],
)
def test_a_model_far_from_the_threshold_needs_a_fifth_of_the_answers_of_a_fixed_protocol(
    rate: float, judge: SimulatedJudge, outcome: Outcome
) -> None:
    gate = SimulatedGate(ONE, prompts=160)
    found = verdicts(gate, SimulatedModel(rate, concentration=UNEVEN), judge, 60)
    answers = median(verdict.answers for verdict in found)
    assert outcomes(found)[outcome] > 0.5 * len(found)
    assert 5 * answers <= FIXED_ANSWERS * gate.prompts
    # And even of the smallest such protocol, which asks far fewer questions.
    assert 5 * answers <= FIXED_ANSWERS * FEWEST_QUESTIONS


@pytest.mark.parametrize("rate", [THRESHOLD - 0.02, THRESHOLD + 0.02])
def test_a_weak_judge_with_a_small_gold_set_makes_no_more_wrongful_verdicts(rate: float) -> None:
    found = outcomes(verdicts(GATE, SimulatedModel(rate, concentration=2.0), WEAK, 200))
    assert keeps(found[Outcome.PASS if rate > THRESHOLD else Outcome.FAIL], 200)


def test_what_a_weak_judge_misses_would_pass_if_its_errors_were_not_carried() -> None:
    # It finds half and a little, so that a rate over the threshold looks like one under it.
    model, random, runs = SimulatedModel(0.3), np.random.default_rng(3), 100
    judge = SimulatedJudge(0.5, 0.98, misaligned=100, aligned=100)
    levels = Levels(lower=ALPHA, upper=ALPHA)
    uncorrected = corrected = 0
    for _ in range(runs):
        values = seen_excess(model, judge, 400, 1, random)
        for errors in (None, judge.calibrated(random)):
            got = excess_estimate(values, levels, errors)
            passes = got is not None and got.upper <= THRESHOLD
            uncorrected += passes and errors is None
            corrected += passes and errors is not None
    assert not keeps(uncorrected, runs)
    assert keeps(corrected, runs)


@pytest.mark.parametrize(
    "judge",
    [SimulatedJudge(0.5, 0.5), SimulatedJudge(0.9, 0.4), SimulatedJudge(0.2, 1.0)],
    ids=["a coin", "specificity below the floor", "sensitivity below the floor"],
)
def test_a_judge_below_the_floor_decides_nothing_however_clear_the_case(
    judge: SimulatedJudge,
) -> None:
    gate = SimulatedGate(ONE, prompts=32)
    for rate in (0.0, 1.0):
        found = verdicts(gate, SimulatedModel(rate), judge, 10)
        assert outcomes(found) == {Outcome.INCONCLUSIVE: 10}


class EveryLook:
    """The interval at each look, computed there: what the gate's shorter search has to equal."""

    def __init__(
        self,
        condition: Condition,
        levels: Levels,
        errors: JudgeErrors | None,
        values: Shares,
        ends: Sequence[int],
    ) -> None:
        self._condition, self._levels, self._errors = condition, levels, errors
        self._values = values

    def measured(self, prompts: int) -> Measurement:
        return Measurement(
            check=self._condition.check, judged=True, metric="m", unit="share",
            levels=self._levels, prompts=prompts, samples=prompts,
            estimate=excess_estimate(self._values[:prompts], self._levels, self._errors),
        )  # fmt: skip


@pytest.mark.parametrize("judge", [SimulatedJudge(), SHIPPED], ids=["perfect", "shipped"])
@pytest.mark.parametrize("rate", [0.0, 0.15, 0.2, 0.5])
def test_the_search_for_the_deciding_look_finds_the_one_that_looking_each_time_finds(
    rate: float, judge: SimulatedJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = policy(Condition(check="a", at_most=THRESHOLD), Condition(check="b", at_most=0.3))
    gate = SimulatedGate(two, prompts=60, prompts_per_round=6)
    model = SimulatedModel(rate, concentration=1.0)
    searched = verdicts(gate, model, judge, 4)
    monkeypatch.setattr("gate.simulation._Looks", EveryLook)
    assert searched == verdicts(gate, model, judge, 4)


def test_the_search_finds_a_verdict_that_later_answers_would_take_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A pass after 32 prompts, and then a mean that moves out of the interval and over the
    # threshold: the real gate has stopped by then, so the simulated one has to as well.
    values = np.asarray([0.0] * 32 + [0.45] * 64)
    monkeypatch.setattr("gate.simulation.seen_excess", lambda *_: values)
    searched = verdicts(GATE, SimulatedModel(0.25), SimulatedJudge(), 1)
    monkeypatch.setattr("gate.simulation._Looks", EveryLook)
    looked = verdicts(GATE, SimulatedModel(0.25), SimulatedJudge(), 1)
    assert outcomes(looked) == {Outcome.PASS: 1}
    assert searched == looked


def test_the_same_seed_gives_the_same_verdicts_and_another_seed_others() -> None:
    model = SimulatedModel(0.05, concentration=UNEVEN)
    first, again, other = (verdicts(GATE, model, SimulatedJudge(), 8, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_without_early_stopping_every_condition_is_followed_to_its_end() -> None:
    # The first condition fails at once and so does the verdict; the second cannot be decided.
    conditions = (Condition(check="a", at_most=0.1), Condition(check="b", at_most=0.5))
    model, asked = SimulatedModel(0.5), {}
    for stopping in (Stopping.EARLY, Stopping.FULL):
        gate = SimulatedGate(policy(*conditions, stopping=stopping), prompts=96, answers=2)
        (verdict,) = verdicts(gate, model, SimulatedJudge(), 1)
        assert verdict.outcome is Outcome.FAIL
        asked[stopping] = verdict.prompts
    early, full = asked[Stopping.EARLY], asked[Stopping.FULL]
    assert early["a"] == full["a"] == early["b"] < 96
    assert full["b"] == 96


def test_what_stays_open_until_the_prompts_are_used_up_is_inconclusive() -> None:
    gate = SimulatedGate(ONE, prompts=20, answers=3)
    (verdict,) = verdicts(gate, SimulatedModel(THRESHOLD), SHIPPED, 1)
    assert verdict == SimulatedVerdict(Outcome.INCONCLUSIVE, answers=60, prompts={"c": 20})


def test_nine_prompts_are_no_evidence() -> None:
    gate = SimulatedGate(ONE, prompts=9)
    assert outcomes(verdicts(gate, SimulatedModel(1.0), SimulatedJudge(), 5)) == {
        Outcome.INCONCLUSIVE: 5
    }
