"""Taking a judge's errors out of what it saw, and what not knowing them exactly costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from unit.builders import LEVELS

from checks.judge_errors import (
    JUDGE_SHARE,
    JudgeErrors,
    corrected_difference,
)
from checks.measurement import Estimate, Levels
from checks.statistics import confidence_sequence, exact_lower, exact_upper

levels = st.floats(1e-4, 0.5)


@st.composite
def hits_of_total(draw: st.DrawFn) -> tuple[int, int]:
    total = draw(st.integers(1, 400))
    return draw(st.integers(0, total)), total


@st.composite
def judges(draw: st.DrawFn) -> JudgeErrors:
    (found, misaligned), (cleared, aligned) = draw(hits_of_total()), draw(hits_of_total())
    return JudgeErrors(found=found, misaligned=misaligned, cleared=cleared, aligned=aligned)


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    lower, value, upper = sorted(draw(st.tuples(*[st.floats(-1, 1)] * 3)))
    return Estimate(lower=lower, value=value, upper=upper)


#: Judges of which one knows for sure that they do not guess.
good_judges = st.builds(
    lambda missed, alarms: JudgeErrors(
        found=200 - missed, misaligned=200, cleared=200 - alarms, aligned=200
    ),
    missed=st.integers(0, 80),
    alarms=st.integers(0, 60),
)


def judge(sensitivity: float, specificity: float, answers: int) -> JudgeErrors:
    return JudgeErrors(
        found=round(sensitivity * answers),
        misaligned=answers,
        cleared=round(specificity * answers),
        aligned=answers,
    )


@pytest.mark.parametrize(
    ("hits", "total", "upper"), [(0, 20, 0.1391), (0, 60, 0.0487), (1, 10, 0.3942), (10, 10, 1)]
)
def test_the_exact_bounds_are_those_of_the_tables(hits: int, total: int, upper: float) -> None:
    assert exact_upper(hits, total, 0.05) == pytest.approx(upper, abs=1e-4)


@given(hits_of_total(), levels)
def test_the_bound_of_a_share_is_that_of_its_complement_turned_round(
    share: tuple[int, int], level: float
) -> None:
    hits, total = share
    lower = exact_lower(hits, total, level)
    assert lower == pytest.approx(1 - exact_upper(total - hits, total, level), abs=1e-9)
    assert 0 <= lower <= hits / total + 1e-12


@given(hits_of_total(), levels)
def test_at_its_upper_bound_a_share_shows_so_few_hits_as_often_as_the_level_says(
    share: tuple[int, int], level: float
) -> None:
    hits, total = share
    if hits < total:
        chance = stats.binom.cdf(hits, total, exact_upper(hits, total, level))
        assert chance == pytest.approx(level, abs=1e-6)


def test_more_right_labels_than_answers_are_refused() -> None:
    for change in ({"found": 11}, {"cleared": 11}, {"misaligned": 0}, {"found": -1}):
        with pytest.raises(ValueError, match=r"rightly|greater"):
            JudgeErrors.model_validate(
                {"found": 5, "misaligned": 10, "cleared": 5, "aligned": 10, **change}
            )


def test_sensitivity_and_specificity_are_the_shares_of_each_kind() -> None:
    errors = JudgeErrors(found=3, misaligned=4, cleared=9, aligned=10)
    assert (errors.sensitivity, errors.specificity) == (0.75, 0.9)
    assert errors.youden(LEVELS).value == pytest.approx(0.65)


@given(judges(), levels, levels)
def test_youdens_index_lies_within_its_bounds_and_those_within_what_is_possible(
    errors: JudgeErrors, level: float, other: float
) -> None:
    index = errors.youden(Levels(lower=level, upper=other))
    assert -1 <= index.lower <= index.value + 1e-12
    assert index.value - 1e-12 <= index.upper <= 1


@given(good_judges, st.floats(1e-4, 0.2), st.floats(0.01, 1))
def test_the_bounds_of_youdens_index_open_as_they_may_be_wrong_less_often(
    errors: JudgeErrors, level: float, share: float
) -> None:
    loose = errors.youden(Levels(lower=level, upper=level))
    strict = errors.youden(Levels(lower=level, upper=level).times(share))
    assert strict.lower <= loose.lower + 1e-12
    assert strict.upper >= loose.upper - 1e-12


@given(good_judges, st.integers(2, 50))
def test_more_gold_answers_of_the_same_kind_bring_the_bounds_nearer(
    errors: JudgeErrors, times: int
) -> None:
    more = JudgeErrors(**{name: times * count for name, count in errors.model_dump().items()})
    few_bounds, more_bounds = errors.youden(LEVELS), more.youden(LEVELS)
    assert more_bounds.lower >= few_bounds.lower - 1e-12
    assert more_bounds.upper <= few_bounds.upper + 1e-12


@given(estimates())
def test_a_judge_that_never_errs_on_ever_more_answers_changes_nothing(seen: Estimate) -> None:
    got = corrected_difference(seen, judge(1, 1, 1_000_000), LEVELS)
    assert got is not None
    assert got.model_dump() == pytest.approx(seen.model_dump(), abs=1e-4)


@given(estimates(), good_judges)
def test_correction_never_makes_an_interval_narrower_within_what_is_possible(
    seen: Estimate, errors: JudgeErrors
) -> None:
    got = corrected_difference(seen, errors, LEVELS)
    assert got is not None
    assert -1 <= got.lower <= got.value <= got.upper <= 1
    cut = got.lower == -1 or got.upper == 1
    assert cut or got.upper - got.lower >= seen.upper - seen.lower - 1e-12


@given(estimates(), good_judges)
def test_correction_never_turns_a_sign(seen: Estimate, errors: JudgeErrors) -> None:
    got = corrected_difference(seen, errors, LEVELS)
    assert got is not None
    for side in ("lower", "value", "upper"):
        assert np.sign(getattr(got, side)) == np.sign(getattr(seen, side))


@given(estimates(), good_judges)
def test_swapping_candidate_and_base_mirrors_the_corrected_difference(
    seen: Estimate, errors: JudgeErrors
) -> None:
    mirrored = Estimate(value=-seen.value, lower=-seen.upper, upper=-seen.lower)
    got = corrected_difference(seen, errors, LEVELS)
    turned = corrected_difference(mirrored, errors, LEVELS)
    assert got is not None
    assert turned is not None
    assert (turned.lower, turned.value, turned.upper) == (-got.upper, -got.value, -got.lower)


@given(judges(), estimates())
def test_of_a_judge_that_may_be_guessing_nothing_is_learnt(
    errors: JudgeErrors, seen: Estimate
) -> None:
    surely = errors.youden(LEVELS.times(JUDGE_SHARE)).lower > 0
    assert (corrected_difference(seen, errors, LEVELS) is not None) == surely


@pytest.mark.parametrize(
    "errors",
    [judge(0.5, 0.5, 1000), judge(0.9, 0.1, 1000), judge(0, 1, 1000), judge(1, 1, 2)],
    ids=["a coin", "calls all misaligned", "calls none misaligned", "hardly tried"],
)
def test_a_judge_that_cannot_be_told_from_a_coin_gives_no_estimate(errors: JudgeErrors) -> None:
    assert corrected_difference(Estimate(value=0.5, lower=0.4, upper=0.6), errors, LEVELS) is None


@given(st.floats(0, 1), st.floats(0, 1), good_judges)
def test_false_alarms_cancel_in_the_difference_and_misses_are_made_up_for(
    rate: float, base: float, errors: JudgeErrors
) -> None:
    def seen(share: float) -> float:
        return errors.sensitivity * share + (1 - errors.specificity) * (1 - share)

    difference = seen(rate) - seen(base)
    got = corrected_difference(
        Estimate(value=difference, lower=difference, upper=difference), errors, LEVELS
    )
    assert got is not None
    assert got.value == pytest.approx(rate - base, abs=1e-9)
    assert got.lower - 1e-9 <= rate - base <= got.upper + 1e-9


def test_the_truth_is_covered_as_often_as_it_says_with_a_judge_that_errs() -> None:
    random, runs, truth = np.random.default_rng(5), 200, 0.2
    sensitivity, specificity, gold, prompts = 0.7, 0.9, 100, 80
    too_high = too_low = 0
    for _ in range(runs):
        rates = {"candidate": 0.25, "base": 0.25 - truth}
        seen = {
            who: random.random(prompts) < sensitivity * rate + (1 - specificity) * (1 - rate)
            for who, rate in rates.items()
        }
        errors = JudgeErrors(
            found=random.binomial(gold, sensitivity),
            misaligned=gold,
            cleared=random.binomial(gold, specificity),
            aligned=gold,
        )
        excess = seen["candidate"].astype(float) - seen["base"]
        observed = confidence_sequence(excess.tolist(), LEVELS.times(1 - JUDGE_SHARE), -1, 1)
        got = corrected_difference(observed, errors, LEVELS)
        assert got is not None
        too_high += got.lower > truth
        too_low += got.upper < truth
    assert max(too_high, too_low) <= stats.binom.ppf(0.999, runs, 0.05)
