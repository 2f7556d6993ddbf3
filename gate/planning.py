"""Planning: what a policy costs on a battery, and which of its thresholds can be reached at all.

Works with the product's own intervals, rounds and findings, on answers that a model without any
failure gives, and on drawn answers of one with a small rate. Nothing is asked of any engine. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from checks.battery import Battery
from checks.check import Check
from checks.judge_errors import JudgeErrors
from checks.measurement import Estimate, Levels, Measurement
from checks.questions import MINIMUM_PROMPTS, JudgedQuestions
from checks.rounds import rounds_of
from checks.sample import Elicitation, Mode
from checks.simulation import (
    Shares,
    SimulatedJudge,
    SimulatedModel,
    excess_estimate,
    seen_excess,
)
from checks.statistics import confidence_sequence
from gate.policy import Condition, Policy
from gate.verdict import Evidence, Outcome, find

#: More prompts than this are not planned for.
MOST_PROMPTS = 4096
#: Models that are drawn for the plan of one with a small rate.
DRAWN_MODELS = 40
#: How the rates of its prompts differ: most are all or nothing, which asks for the most answers.
CONCENTRATION = 0.5
_SEED = 20261124
#: Requests that an endpoint judge gets for one answer: alignment and coherence.
REQUESTS_PER_RATING = 2
#: Tokens of the shipped rubric in one such request, without question and answer.
RUBRIC_TOKENS = 550
CHARACTERS_PER_TOKEN = 4


class Cost(BaseModel):
    """What a pass takes. Counts of requests to candidate and base, and what the judge gets.

    ``base_answers`` are drawn once per base and battery and then kept. ``ratings`` counts answers
    of both and the controls. ``tokens_at_most`` bounds what candidate and base write;
    ``judge_tokens`` estimates what an endpoint judge reads, at most.
    """

    model_config = ConfigDict(frozen=True)

    candidate_answers: int = 0
    base_answers: int = 0
    ratings: int = 0
    judge_requests: int = 0
    tokens_at_most: int = 0
    judge_tokens: int = 0


class Pass(BaseModel):
    """When a condition passes, in whole rounds.

    ``share`` in [0, 1] of the models pass before the battery's prompts are used up; the other
    figures are medians over those that do, and None where fewer than half do. ``answers`` are
    those to these prompts, of the candidate and of the base where one is compared with.
    """

    model_config = ConfigDict(frozen=True)

    share: float = Field(ge=0, le=1)
    rounds: int | None = None
    prompts: int | None = None
    candidate_answers: int | None = None
    base_answers: int | None = None


class ConditionPlan(BaseModel):
    """One condition: what the battery has for it, and what a pass needs.

    ``prompts`` counts those that the metric counts. ``needed`` is the least number of prompts with
    which a model without failure passes, None if it has no such number. ``largest_spread`` is the
    standard deviation over prompts up to which an unshifted model passes, in the metric's unit,
    for a check that is looked at once.
    """

    model_config = ConfigDict(frozen=True)

    condition: Condition
    unit: str
    levels: Levels
    prompts: int = 0
    needed: int | None = None
    without_failure: Pass | None = None
    with_rate: Pass | None = None
    largest_spread: float | None = None
    reachable: bool = False
    note: str = ""


class PolicyPlan(BaseModel):
    """The plan of all conditions in force; costs are those of a whole pass, None if out of reach.

    ``rate`` in [0, 1] is that of the model with failures.
    """

    model_config = ConfigDict(frozen=True)

    policy: str
    battery: str
    alpha: float
    judge: JudgeErrors
    judge_source: str
    rate: float
    conditions: tuple[ConditionPlan, ...]
    cost_without_failure: Cost | None
    cost_with_rate: Cost | None

    @property
    def reachable(self) -> bool:
        """Whether a model without any failure can meet every required condition."""
        return all(plan.reachable for plan in self.conditions if plan.condition.required)


@dataclass(frozen=True)
class _Asked:
    """What is asked for one check by the end of each round, cumulated."""

    prompts: tuple[int, ...]
    answers: tuple[int, ...]


@dataclass(frozen=True)
class _Metric:
    """How a share is estimated: against the base or not, corrected for a judge or not."""

    relative: bool
    judge: JudgeErrors | None
    good_is_high: bool
    answers: int

    def without_failure(self, prompts: int) -> Shares:
        return np.full(prompts, 0.0 if self.relative or not self.good_is_high else 1.0)

    def with_rate(self, rate: float, prompts: int, random: np.random.Generator) -> Shares:
        judge = SimulatedJudge()
        if self.judge is not None:
            judge = SimulatedJudge(self.judge.sensitivity, self.judge.specificity)
        model = SimulatedModel(rate, concentration=CONCENTRATION)
        failures = seen_excess(model, judge, prompts, self.answers, random)
        if self.relative:
            return -failures if self.good_is_high else failures
        return 1 - failures if self.good_is_high else failures

    def estimate(self, values: Shares, levels: Levels) -> Estimate | None:
        if self.relative:
            return excess_estimate(values, levels, self.judge)
        if len(values) < MINIMUM_PROMPTS:
            return None
        return confidence_sequence(values.tolist(), levels)
