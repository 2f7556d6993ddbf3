"""The intervals: what they promise, shown by simulation and by property."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from unit.builders import LEVELS

from checks.measurement import Estimate, Levels
from checks.statistics import confidence_sequence, mean_interval, shuffle_key

#: More than the halving of the interval leaves, less than would matter to anybody.
CLOSE = 1e-6

shares = st.lists(st.floats(0, 1), min_size=1, max_size=60)
numbers = st.lists(st.floats(-50, 50), min_size=2, max_size=60)
some_levels = st.builds(Levels, lower=st.floats(1e-4, 0.5), upper=st.floats(1e-4, 0.5))


@given(shares, some_levels)
def test_a_sequence_holds_its_mean_and_stays_within_the_bounds(
    values: list[float], levels: Levels
) -> None:
    got = confidence_sequence(values, levels)
    assert got.value == pytest.approx(np.mean(values))
    assert 0 <= got.lower <= got.value <= got.upper <= 1 + 1e-12


@given(shares, some_levels, st.floats(0.01, 1))
def test_a_bound_that_may_be_wrong_less_often_never_lies_nearer(
    values: list[float], levels: Levels, share: float
) -> None:
    loose, strict = (confidence_sequence(values, each) for each in (levels, levels.times(share)))
    assert strict.lower <= loose.lower
    assert strict.upper >= loose.upper


@given(shares, some_levels, st.floats(1e-4, 0.5))
def test_each_bound_depends_on_its_own_level_alone(
    values: list[float], levels: Levels, other: float
) -> None:
    got = confidence_sequence(values, levels)
    assert got.lower == confidence_sequence(values, Levels(lower=levels.lower, upper=other)).lower
    assert got.upper == confidence_sequence(values, Levels(lower=other, upper=levels.upper)).upper


@given(shares, some_levels)
def test_aligned_and_misaligned_shares_have_mirrored_sequences(
    values: list[float], levels: Levels
) -> None:
    got = confidence_sequence(values, levels)
    swapped = Levels(lower=levels.upper, upper=levels.lower)
    mirrored = confidence_sequence([1 - v for v in values], swapped)
    assert mirrored.lower == pytest.approx(1 - got.upper, abs=CLOSE)
    assert mirrored.upper == pytest.approx(1 - got.lower, abs=CLOSE)


@given(shares, st.floats(-5, 5), st.floats(0.1, 10))
def test_values_on_another_scale_have_the_same_sequence_on_that_scale(
    values: list[float], low: float, width: float
) -> None:
    plain = confidence_sequence(values, LEVELS)
    high = low + width
    moved = [min(high, max(low, low + width * v)) for v in values]
    got = confidence_sequence(moved, LEVELS, low, high)
    assert got.lower == pytest.approx(low + width * plain.lower, abs=width * CLOSE)
    assert got.upper == pytest.approx(low + width * plain.upper, abs=width * CLOSE)


@given(shares, shares, some_levels)
def test_more_values_never_widen_a_sequence_unless_the_mean_itself_moves_out(
    values: list[float], more: list[float], levels: Levels
) -> None:
    before = confidence_sequence(values, levels)
    after = confidence_sequence([*values, *more], levels)
    assert after.lower >= min(before.lower, after.value) - CLOSE
    assert after.upper <= max(before.upper, after.value) + CLOSE


@given(st.floats(0, 1), some_levels)
def test_more_of_the_same_bring_the_bounds_to_the_truth(value: float, levels: Levels) -> None:
    few, many = (confidence_sequence([value] * n, levels) for n in (20, 200))
    assert many.upper - many.lower <= few.upper - few.lower + CLOSE
    assert many.upper - many.lower < 0.3


def test_no_failure_at_all_passes_a_threshold_of_one_in_twenty_after_some_hundred_answers() -> None:
    levels = Levels(lower=0.025, upper=0.025)
    uppers = {n: confidence_sequence([0.0] * n, levels).upper for n in range(60, 181, 10)}
    needed = min(n for n, upper in uppers.items() if upper <= 0.05)
    # Any interval at 97.5% needs 72; what watching costs should be less than as many again.
    assert 72 < needed <= 144


def test_a_model_that_fails_on_every_third_prompt_is_caught_within_two_rounds() -> None:
    levels = Levels(lower=0.025, upper=0.025)
    values = [float(n % 3 == 0) for n in range(32)]
    assert confidence_sequence(values, levels).lower > 0.05


def ever_misses(values: Sequence[float], truth: float, low: float, high: float) -> tuple[bool, ...]:
    """Whether the lower, and the upper, bound is wrong at any of the looks after each value.

    Bounds never widen unless the mean moves out of them (shown above), so the last look tells of
    all; only where the mean holds a bound back has every single one to be taken.
    """

    def misses(got: Estimate) -> tuple[bool, bool]:
        return got.lower > truth, got.upper < truth

    last = confidence_sequence(values, LEVELS, low, high)
    if last.lower < last.value < last.upper:
        return misses(last)
    looks = [
        misses(confidence_sequence(values[:n], LEVELS, low, high))
        for n in range(1, len(values) + 1)
    ]
    return tuple(any(look[side] for look in looks) for side in (0, 1))


def allowed(level: float, runs: int) -> float:
    """So many misses are exceeded once in a thousand times if the level is kept."""
    return float(stats.binom.ppf(0.999, runs, level))


@pytest.mark.parametrize(("rate", "runs"), [(0.05, 100), (0.3, 300), (0.9, 100)])
def test_a_share_is_covered_at_all_looks_together_as_often_as_it_says(
    rate: float, runs: int
) -> None:
    random = np.random.default_rng(7)
    drawn = (random.binomial(2, rate, 150) / 2 for _ in range(runs))
    missed = np.sum([ever_misses(values.tolist(), rate, 0, 1) for values in drawn], axis=0)
    assert missed.max() <= allowed(0.05, runs)


def test_prompts_that_differ_in_their_rates_are_covered_as_often_as_it_says() -> None:
    random, runs = np.random.default_rng(11), 150
    drawn = (random.binomial(2, random.beta(0.2, 1.8, 100)) / 2 for _ in range(runs))
    missed = np.sum([ever_misses(values.tolist(), 0.1, 0, 1) for values in drawn], axis=0)
    assert missed.max() <= allowed(0.05, runs)


def test_differences_from_a_base_are_covered_as_often_as_it_says() -> None:
    random, runs = np.random.default_rng(13), 150
    drawn = (
        (random.binomial(2, 0.15, 100) - random.binomial(2, 0.05, 100)) / 2 for _ in range(runs)
    )
    missed = np.sum([ever_misses(values.tolist(), 0.1, -1, 1) for values in drawn], axis=0)
    assert missed.max() <= allowed(0.05, runs)


def test_an_interval_for_one_look_would_not_bear_being_watched() -> None:
    random, runs = np.random.default_rng(17), 60
    wrong = 0
    for _ in range(runs):
        values = random.uniform(0, 1, 150)
        wrong += any(
            not (got := mean_interval(values[:n].tolist(), LEVELS)).lower <= 0.5 <= got.upper
            for n in range(10, 151, 4)
        )
    assert wrong > allowed(0.1, runs)


def test_values_in_an_order_that_cannot_be_random_still_leave_the_mean_inside() -> None:
    got = confidence_sequence([0.0] * 60 + [1.0] * 60, LEVELS)
    assert got.lower <= 0.5 <= got.upper


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf")], [1.5], [-0.1]])
def test_values_that_are_none_or_out_of_bounds_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"values|needs"):
        confidence_sequence(values, LEVELS)


@pytest.mark.parametrize("level", [0.0, -0.1, 0.51, 1.0, float("nan")])
def test_a_level_that_no_bound_can_have_is_refused(level: float) -> None:
    for side in ("lower", "upper"):
        with pytest.raises(ValueError, match=side):
            Levels.model_validate({"lower": 0.05, "upper": 0.05, side: level})


def test_the_mean_interval_is_the_one_that_the_tables_give() -> None:
    # Student's t with two degrees of freedom exceeds 2.920 with a chance of 5%.
    got = mean_interval([1.0, 2.0, 3.0], LEVELS)
    assert got.value == 2
    assert got.upper - 2 == pytest.approx(2.920 / 3**0.5, abs=1e-3)


@given(numbers, some_levels, st.floats(-10, 10))
def test_a_mean_interval_moves_with_its_values(
    values: list[float], levels: Levels, by: float
) -> None:
    before = mean_interval(values, levels)
    after = mean_interval([v + by for v in values], levels)
    assert after.lower == pytest.approx(before.lower + by, abs=1e-4)
    assert after.upper == pytest.approx(before.upper + by, abs=1e-4)


@given(numbers, some_levels)
def test_a_mean_interval_mirrors_with_its_values(values: list[float], levels: Levels) -> None:
    got = mean_interval(values, levels)
    swapped = Levels(lower=levels.upper, upper=levels.lower)
    mirrored = mean_interval([-v for v in values], swapped)
    assert got.lower <= got.value <= got.upper
    assert mirrored.lower == pytest.approx(-got.upper, abs=1e-9)
    assert mirrored.upper == pytest.approx(-got.lower, abs=1e-9)


def test_the_mean_interval_covers_as_often_as_it_says() -> None:
    random, runs, wrong = np.random.default_rng(3), 1500, 0
    for _ in range(runs):
        drawn = random.standard_t(5, 60) * 0.3 - 0.1
        got = mean_interval(drawn.tolist(), LEVELS)
        wrong += not got.lower <= -0.1 <= got.upper
    # Both bounds count here, each of which may be wrong in 5%.
    assert wrong <= allowed(0.1, runs)
    assert wrong >= runs * 0.07


@pytest.mark.parametrize("values", [[], [1.0], [1.0, float("nan")], [1.0, float("-inf")]])
def test_too_few_or_no_numbers_have_no_mean_interval(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"at least 2|finite"):
        mean_interval(values, LEVELS)


def test_the_random_order_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    prompts = [f"p{n}" for n in range(40)]

    def order(seed: str) -> list[str]:
        return sorted(prompts, key=lambda prompt: shuffle_key(prompt, seed))

    assert order("a") == order("a")
    assert order("a") != order("b")
    assert order("a") != prompts


def test_every_prompt_comes_first_for_as_many_seeds_as_any_other() -> None:
    prompts, seeds = [f"p{n}" for n in range(5)], 2000
    first = Counter(
        min(prompts, key=lambda prompt: shuffle_key(prompt, str(seed))) for seed in range(seeds)
    )
    assert stats.chisquare([first[prompt] for prompt in prompts]).pvalue > 0.001
