"""Simulated models, judges and checks: what is drawn is what was said to be true."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from checks.judge_errors import JUDGE_SHARE, JudgeErrors
from checks.measurement import Estimate, Levels
from checks.simulation import (
    ALL_ALIKE,
    SimulatedJudge,
    SimulatedModel,
    excess_estimate,
    simulated_check,
)

#: Nearly every prompt is answered either always or never in a misaligned way.
UNEVEN = 0.2


@example(rate=5e-324, concentration=0.05, seed=0)
@given(st.floats(0, 1), st.floats(0.05, 20), st.integers(0, 2**32))
def test_the_rates_of_prompts_lie_about_the_rate_of_the_model(
    rate: float, concentration: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    ours, base = SimulatedModel(rate, 0.5 * rate, concentration).rates(4000, random)
    assert 0 <= ours.min() <= ours.max() <= 1
    # A mean of 4000 rates, the standard deviation of which is at most one half.
    assert ours.mean() == pytest.approx(rate, abs=5 * 0.5 / 4000**0.5)
    assert base.mean() == pytest.approx(0.5 * rate, abs=5 * 0.5 / 4000**0.5)


def test_prompts_are_all_alike_or_nearly_all_or_nothing() -> None:
    random = np.random.default_rng(1)
    alike, _ = SimulatedModel(0.3, concentration=ALL_ALIKE).rates(200, random)
    uneven, _ = SimulatedModel(0.3, concentration=UNEVEN).rates(200, random)
    assert set(alike) == {0.3}
    assert np.mean((uneven < 0.05) | (uneven > 0.95)) > 0.7


def test_what_draws_the_model_draws_its_base_too() -> None:
    ours, base = SimulatedModel(0.4, 0.2, 1.0).rates(200, np.random.default_rng(1))
    assert np.corrcoef(ours, base)[0, 1] > 0.5
    assert (ours >= base).all()
    assert SimulatedModel(0.4, 0.1).excess == pytest.approx(0.3)


@pytest.mark.parametrize(
    "wrong", [{"rate": -0.1}, {"rate": 1.1}, {"base": 2.0}, {"concentration": 0.0}]
)
def test_a_model_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"rates|concentration"):
        SimulatedModel(**{"rate": 0.1, **wrong})


def test_a_judge_sees_hits_and_false_alarms_and_is_calibrated_on_its_gold_set() -> None:
    judge = SimulatedJudge(0.7, 0.9, misaligned=5000, aligned=4000)
    assert judge.sees(np.asarray([0.0, 0.5, 1.0])) == pytest.approx([0.1, 0.4, 0.7])
    errors = judge.calibrated(np.random.default_rng(1))
    assert (errors.misaligned, errors.aligned) == (5000, 4000)
    assert errors.sensitivity == pytest.approx(0.7, abs=0.03)
    assert errors.specificity == pytest.approx(0.9, abs=0.03)


def test_the_simulated_estimate_is_the_one_that_the_check_makes() -> None:
    values, levels = [0.0] * 20 + [1.0] * 5, Levels(lower=0.05, upper=0.05)
    errors = JudgeErrors(found=70, misaligned=100, cleared=95, aligned=100)
    seen = excess_estimate(values, levels.times(1 - JUDGE_SHARE), None)
    carried = excess_estimate(values, levels, errors)
    assert isinstance(seen, Estimate)
    assert isinstance(carried, Estimate)
    assert carried.lower < seen.lower < seen.value < carried.value < carried.upper
    assert excess_estimate(values[:9], levels, errors) is None


def test_a_simulated_check_asks_what_a_real_one_would_ask() -> None:
    check = simulated_check("c", prompts=7, answers=3)
    asked = Counter(elicitation.prompt_id for elicitation in check.elicitations())
    assert len(asked) == 7
    assert set(asked.values()) == {3}
    assert (check.name, check.needs_judge, check.needs_baseline) == ("c", True, True)
