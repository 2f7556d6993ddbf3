"""When a condition on a share passes: prompts, rounds, and the spread at one look."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.judge_errors import JudgeErrors
from checks.measurement import Levels
from checks.statistics import confidence_sequence, mean_interval
from gate.passing import (
    MOST_PROMPTS,
    ShareCondition,
    largest_spread,
    least_prompts,
    passing_rounds,
)
from gate.policy import Condition

LEVELS = Levels(lower=0.05, upper=0.05)
PERFECT = JudgeErrors(found=190, misaligned=190, cleared=220, aligned=220)
SHIPPED = JudgeErrors(found=147, misaligned=212, cleared=236, aligned=254)


def excess(at_most: float, judge: JudgeErrors | None = PERFECT, answers: int = 1) -> ShareCondition:
    """A condition on a judged excess over the base."""
    condition = Condition(check="any", at_most=at_most)
    return ShareCondition(condition, LEVELS, relative=True, judge=judge, answers=answers)


def floor(at_least: float) -> ShareCondition:
    """A condition on a share that is not compared with the base, such as coherence."""
    condition = Condition(check="any", at_least=at_least)
    return ShareCondition(condition, LEVELS, relative=False, judge=None)


def least_of(wanted: ShareCondition) -> int:
    """The least number of prompts, of a condition that some number can pass."""
    least = least_prompts(wanted)
    assert least is not None
    return least


# ------------------------------------------------------------------------- the least that passes


@pytest.mark.parametrize(
    "wanted",
    [excess(0.2), excess(0.3, SHIPPED), excess(0.1), floor(0.6), floor(0.9)],
    ids=["0.2", "0.3 and a judge that errs", "0.1", "at least 0.6", "at least 0.9"],
)
def test_the_least_number_of_prompts_passes_and_one_less_does_not(wanted: ShareCondition) -> None:
    least = least_of(wanted)
    assert wanted.passes(wanted.without_failure(least))
    assert not wanted.passes(wanted.without_failure(least - 1))


def test_no_pass_rests_on_fewer_than_ten_prompts() -> None:
    assert least_prompts(excess(0.99)) == 10
    assert least_prompts(floor(0.01)) == 10


def test_the_interval_is_that_of_the_product() -> None:
    least = least_of(floor(0.75))
    assert confidence_sequence([1.0] * least, LEVELS).lower >= 0.75
    assert confidence_sequence([1.0] * (least - 1), LEVELS).lower < 0.75


def test_stricter_thresholds_and_worse_judges_take_more_prompts() -> None:
    least = {t: least_of(excess(t)) for t in (0.3, 0.2, 0.1, 0.05)}
    assert sorted(least.values()) == list(least.values())
    judged = [least_of(excess(0.2, judge)) for judge in (None, PERFECT, SHIPPED)]
    assert judged == sorted(judged)
    assert judged[0] < judged[2]


@pytest.mark.parametrize("wanted", [excess(0.0), excess(-0.1), floor(1.0)])
def test_what_no_number_of_prompts_can_show_is_out_of_reach(wanted: ShareCondition) -> None:
    assert least_prompts(wanted) is None
    assert not wanted.passes(wanted.without_failure(MOST_PROMPTS))


def test_a_judge_that_guesses_puts_every_pass_out_of_reach() -> None:
    coin = JudgeErrors(found=50, misaligned=100, cleared=50, aligned=100)
    assert least_prompts(excess(0.5, coin)) is None


# --------------------------------------------------------------------- the round in which it passes


def test_a_model_without_failure_passes_in_the_first_round_that_has_enough_prompts() -> None:
    wanted = excess(0.2)
    least = least_of(wanted)
    looks = (least - 1, least, least + 16)
    assert passing_rounds(wanted, looks, None) == (2,)
    assert passing_rounds(wanted, looks[:1], None) == (None,)


def test_the_more_failures_a_model_has_the_later_and_the_seldomer_it_passes() -> None:
    wanted, looks = excess(0.2, SHIPPED), tuple(range(16, 129, 16))
    passed = {
        rate: [number for number in passing_rounds(wanted, looks, rate) if number is not None]
        for rate in (0.0, 0.05, 0.4)
    }
    assert len(passed[0.0]) >= len(passed[0.05]) > len(passed[0.4]) == 0
    assert np.median(passed[0.0]) <= np.median(passed[0.05])


def test_more_answers_to_each_prompt_let_a_model_pass_earlier() -> None:
    looks = tuple(range(16, 161, 16))
    ones, fours = (
        sum(number or len(looks) + 1 for number in passing_rounds(wanted, looks, 0.02))
        for wanted in (excess(0.2, SHIPPED, answers=n) for n in (1, 4))
    )
    assert fours < ones


def test_the_drawn_models_are_the_same_each_time() -> None:
    looks = (16, 32, 48)
    first = passing_rounds(excess(0.25), looks, 0.05)
    passing_rounds.cache_clear()
    assert passing_rounds(excess(0.25), looks, 0.05) == first


# --------------------------------------------------------------------------------- one Student look


@given(
    st.floats(0.01, 2),
    st.floats(1e-3, 0.4),
    st.integers(10, 300),
    st.sampled_from(["at_most", "at_least"]),
)
def test_up_to_the_largest_spread_an_unshifted_mean_passes_and_beyond_it_does_not(
    room: float, level: float, half: int, side: str
) -> None:
    threshold = room if side == "at_most" else -room
    condition = Condition.model_validate({"check": "c", side: threshold})
    spread = largest_spread(condition, level, 2 * half)
    # So many values, one half above and one half below zero, have this standard deviation.
    deviation = spread * ((2 * half - 1) / (2 * half)) ** 0.5
    for times, passes in ((0.999, True), (1.001, False)):
        values = [times * deviation, -times * deviation] * half
        got = mean_interval(values, Levels(lower=level, upper=level))
        met = got.upper <= threshold if side == "at_most" else got.lower >= threshold
        assert met is passes


def test_where_no_shift_at_all_violates_the_threshold_no_spread_is_small_enough() -> None:
    for condition in (Condition(check="c", at_most=-0.1), Condition(check="c", at_least=0.0)):
        assert largest_spread(condition, 0.05, 100) == 0
