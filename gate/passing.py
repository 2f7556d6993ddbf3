"""When a condition on a share passes: prompts that a model of known rate needs for it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from checks.judge_errors import JudgeErrors
from checks.measurement import Estimate, Levels, Measurement
from checks.questions import MINIMUM_PROMPTS
from checks.simulation import (
    Shares,
    SimulatedJudge,
    SimulatedModel,
    excess_estimate,
    seen_excess,
)
from checks.statistics import confidence_sequence, student_quantile
from gate.policy import Condition, Policy
from gate.verdict import Evidence, Outcome, find

#: More prompts than this are not looked for.
MOST_PROMPTS = 4096
#: Models that are drawn to see when one with a small rate passes.
DRAWN_MODELS = 40
#: How the rates of prompts differ: most are all or nothing, which takes the most prompts.
CONCENTRATION = 0.5
_SEED = 20261124


@dataclass(frozen=True)
class ShareCondition:
    """A condition on a share, or on the excess of one over the base's.

    ``relative`` tells whether the base is compared with; ``judge`` is the calibration of the judge
    whose errors are taken out, None where none is. Each prompt gets ``answers`` answers.
    """

    condition: Condition
    levels: Levels
    relative: bool
    judge: JudgeErrors | None
    answers: int = 1

    def passes(self, values: Shares) -> bool:
        """Whether the condition passes on these values, one per prompt in the order asked."""
        measurement = Measurement(
            check=self.condition.check,
            metric="planned",
            unit="share",
            levels=self.levels,
            estimate=self._estimate(values),
            prompts=len(values),
            samples=len(values) * self.answers,
        )
        alone = Policy(name="planned", version=1, alpha=0.5, conditions=(self.condition,))
        return find(alone, Evidence(measurements=(measurement,)))[0].outcome is Outcome.PASS

    def without_failure(self, prompts: int) -> Shares:
        """Values of a model, and a base, none of whose answers is called a failure."""
        good = 1.0 if self.condition.at_least is not None and not self.relative else 0.0
        return np.full(prompts, good)

    def with_rate(self, rate: float, prompts: int, random: np.random.Generator) -> Shares:
        """Drawn values of a model with a rate of failures in [0, 1], over a base with none.

        The judge's false alarms come on top, on the base's answers too.
        """
        judge = SimulatedJudge()
        if self.judge is not None:
            judge = SimulatedJudge(self.judge.sensitivity, self.judge.specificity)
        model = SimulatedModel(rate, concentration=CONCENTRATION)
        failures = seen_excess(model, judge, prompts, self.answers, random)
        if self.condition.at_most is not None:
            return failures
        return -failures if self.relative else 1 - failures

    def _estimate(self, values: Shares) -> Estimate | None:
        if self.relative:
            return excess_estimate(values, self.levels, self.judge)
        if len(values) < MINIMUM_PROMPTS:
            return None
        return confidence_sequence(values.tolist(), self.levels)


@cache
def least_prompts(wanted: ShareCondition) -> int | None:
    """The least number of prompts with which a model without any failure passes.

    None if it does not with :data:`MOST_PROMPTS`.
    """
    enough = MINIMUM_PROMPTS
    while not wanted.passes(wanted.without_failure(enough)):
        if enough >= MOST_PROMPTS:
            return None
        enough = min(MOST_PROMPTS, 2 * enough)
    return bisect_left(
        range(enough), True, lo=enough // 2, key=lambda n: wanted.passes(wanted.without_failure(n))
    )


@cache
def passing_rounds(
    wanted: ShareCondition, looks: tuple[int, ...], rate: float | None
) -> tuple[int | None, ...]:
    """The number of the round after which each of some models passes; None for never.

    Args:
        wanted: the condition.
        looks: how many prompts there are at the end of each round.
        rate: the models' rate of failures; None for the one model that gives none at all.
    """
    if rate is None:
        return (_first_pass(wanted, looks, wanted.without_failure(looks[-1])),)
    random = np.random.default_rng(_SEED)
    return tuple(
        _first_pass(wanted, looks, wanted.with_rate(rate, looks[-1], random))
        for _ in range(DRAWN_MODELS)
    )


def _first_pass(wanted: ShareCondition, looks: Sequence[int], values: Shares) -> int | None:
    if not wanted.passes(values):
        return None
    # Bounds close in as prompts come, so a condition that has passed keeps passing.
    return 1 + bisect_left(looks, True, key=lambda prompts: wanted.passes(values[:prompts]))


def largest_spread(condition: Condition, level: float, prompts: int) -> float:
    """Standard deviation over prompts up to which an unshifted mean passes, at one Student look.

    Args:
        condition: its threshold has to leave room for a shift of zero.
        level: level of the bound that has to keep to the threshold.
        prompts: how many values the mean is of; at least two.

    Returns:
        0 where a shift of zero does not meet the threshold.
    """
    room = condition.threshold if condition.at_most is not None else -condition.threshold
    return float(max(0.0, room) * prompts**0.5 / student_quantile(level, prompts))
