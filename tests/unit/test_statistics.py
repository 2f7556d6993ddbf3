"""The intervals: what they promise, shown by simulation and by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.statistics import bounded_mean_interval, mean_interval

shares = st.lists(st.floats(0, 1), min_size=1, max_size=60)
numbers = st.lists(st.floats(-50, 50), min_size=2, max_size=60)


@given(shares)
def test_a_bounded_interval_holds_its_value_and_stays_within_the_bounds(
    values: list[float],
) -> None:
    got = bounded_mean_interval(values, 0.95)
    assert 0 <= got.lower <= got.value <= got.upper <= 1


@given(shares)
def test_more_confidence_never_makes_a_bounded_interval_narrower(values: list[float]) -> None:
    loose, strict = bounded_mean_interval(values, 0.9), bounded_mean_interval(values, 0.99)
    assert strict.upper - strict.lower >= loose.upper - loose.lower - 2e-3


@given(numbers, st.floats(-10, 10))
def test_a_mean_interval_moves_with_its_values(values: list[float], by: float) -> None:
    before = mean_interval(values, 0.95)
    after = mean_interval([v + by for v in values], 0.95)
    assert after.lower == pytest.approx(before.lower + by, abs=1e-6)
    assert after.upper == pytest.approx(before.upper + by, abs=1e-6)


@given(shares)
def test_differences_are_treated_like_shares_on_a_wider_scale(values: list[float]) -> None:
    plain = bounded_mean_interval(values, 0.95)
    wide = bounded_mean_interval([2 * v - 1 for v in values], 0.95, -1, 1)
    assert wide.lower == pytest.approx(2 * plain.lower - 1, abs=3e-3)
    assert wide.upper == pytest.approx(2 * plain.upper - 1, abs=3e-3)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.3, 0.9])
def test_the_bounded_interval_covers_rare_rates_as_often_as_it_says(rate: float) -> None:
    random, runs, wrong = np.random.default_rng(7), 600, 0
    for _ in range(runs):
        got = bounded_mean_interval((random.binomial(2, rate, 76) / 2).tolist(), 0.95)
        wrong += not got.lower <= rate <= got.upper
    assert wrong / runs <= 0.05


def test_the_mean_interval_covers_as_often_as_it_says() -> None:
    random, runs, wrong = np.random.default_rng(3), 2000, 0
    for _ in range(runs):
        drawn = random.standard_t(5, 60) * 0.3 - 0.1
        got = mean_interval(drawn.tolist(), 0.95)
        wrong += not got.lower <= -0.1 <= got.upper
    assert wrong / runs <= 0.065


def test_no_event_in_more_prompts_bounds_the_rate_lower() -> None:
    uppers = [bounded_mean_interval([0.0] * n, 0.95).upper for n in (20, 60, 200)]
    assert uppers == sorted(uppers, reverse=True)
    assert uppers[-1] < 0.05


@pytest.mark.parametrize("values", [[], [float("nan")], [1.5], [-0.1]])
def test_values_that_are_none_or_out_of_bounds_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"values|needs"):
        bounded_mean_interval(values, 0.95)


def test_one_value_has_no_mean_interval() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        mean_interval([1.0], 0.95)


@given(numbers)
def test_a_mean_interval_is_symmetric_and_mirrors_with_its_values(values: list[float]) -> None:
    got, mirrored = mean_interval(values, 0.95), mean_interval([-v for v in values], 0.95)
    assert got.upper - got.value == pytest.approx(got.value - got.lower, abs=1e-9)
    assert mirrored.lower == pytest.approx(-got.upper, abs=1e-9)


@given(shares)
def test_misaligned_and_aligned_shares_have_mirrored_intervals(values: list[float]) -> None:
    got = bounded_mean_interval(values, 0.95)
    mirrored = bounded_mean_interval([1 - v for v in values], 0.95)
    assert mirrored.lower == pytest.approx(1 - got.upper, abs=2e-3)
    assert mirrored.upper == pytest.approx(1 - got.lower, abs=2e-3)


def test_prompts_that_differ_in_their_rates_are_covered_as_often_as_it_says() -> None:
    random, runs, wrong = np.random.default_rng(11), 400, 0
    for _ in range(runs):
        rates = random.beta(0.2, 1.8, 60)
        got = bounded_mean_interval((random.binomial(2, rates) / 2).tolist(), 0.95)
        wrong += not got.lower <= 0.1 <= got.upper
    assert wrong / runs <= 0.05


def test_differences_from_a_base_are_covered_as_often_as_it_says() -> None:
    random, runs, wrong = np.random.default_rng(13), 400, 0
    for _ in range(runs):
        candidate, base = random.binomial(2, 0.15, 60) / 2, random.binomial(2, 0.05, 60) / 2
        got = bounded_mean_interval((candidate - base).tolist(), 0.95, -1, 1)
        wrong += not got.lower <= 0.1 <= got.upper
    assert wrong / runs <= 0.05


def test_values_in_an_order_that_cannot_be_random_prove_nothing() -> None:
    got = bounded_mean_interval([0.0] * 60 + [1.0] * 60, 0.95)
    assert (got.lower, got.upper) == (0, 1)


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 1.5, float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    for interval in (mean_interval, bounded_mean_interval):
        with pytest.raises(ValueError, match="confidence"):
            interval([0.0, 1.0], confidence)
