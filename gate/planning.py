"""Planning: what a policy costs on a battery, and which of its thresholds can be reached at all.

Works with the product's own intervals, rounds and findings, on the answers of a model without any
failure and on drawn answers of models with a small rate. Nothing is asked of any engine. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_high

from pydantic import BaseModel, ConfigDict, Field

from checks.battery import Battery
from checks.check import Check
from checks.judge_errors import JudgeErrors
from checks.measurement import Levels
from checks.questions import JudgedQuestions
from checks.rounds import rounds_of
from checks.sample import Elicitation, Mode
from gate.passing import (
    MOST_PROMPTS,
    ShareCondition,
    largest_spread,
    least_prompts,
    passing_rounds,
)
from gate.policy import Condition, Policy

#: Requests that an endpoint judge gets for one answer: alignment and coherence.
REQUESTS_PER_RATING = 2
#: Tokens of the shipped rubric in one such request, without question and answer.
RUBRIC_TOKENS = 500
CHARACTERS_PER_TOKEN = 4
_SHARE = "share"


class Cost(BaseModel):
    """What a pass takes of all checks together.

    ``base_answers`` are drawn once per base and battery and then kept. ``ratings`` counts answers
    of candidate and base. ``tokens_at_most`` bounds what both write; ``judge_tokens`` estimates
    from above what an endpoint judge reads.
    """

    model_config = ConfigDict(frozen=True)

    candidate_answers: int = Field(ge=0)
    base_answers: int = Field(ge=0)
    ratings: int = Field(ge=0)
    judge_requests: int = Field(ge=0)
    tokens_at_most: int = Field(ge=0)
    judge_tokens: int = Field(ge=0)


class Pass(BaseModel):
    """When a condition passes, in whole rounds.

    ``share`` in [0, 1] of the models pass before the battery's prompts are used up. The other
    figures hold for the median model, and are None where it does not pass. ``prompts`` counts
    those that the metric counts; answers are those to all prompts that are asked till then.
    """

    model_config = ConfigDict(frozen=True)

    share: float = Field(ge=0, le=1)
    rounds: int | None = None
    prompts: int | None = None
    candidate_answers: int | None = None
    base_answers: int | None = None


class ConditionPlan(BaseModel):
    """One condition: what the battery has for it, and what a pass needs.

    ``prompts`` counts those that the metric counts. ``needed`` is the least number of them with
    which a model without failure passes; None if there is none. ``spread_at_most`` is the standard
    deviation over prompts, in the metric's unit, up to which a model without shift passes a check
    that is looked at once. ``reachable`` tells whether the battery suffices for a pass.
    """

    model_config = ConfigDict(frozen=True)

    condition: Condition
    unit: str = ""
    levels: Levels
    prompts: int = Field(default=0, ge=0)
    needed: int | None = None
    without_failure: Pass | None = None
    with_rate: Pass | None = None
    spread_at_most: float | None = None
    reachable: bool = False
    note: str = ""


class PolicyPlan(BaseModel):
    """The plan of all conditions in force.

    ``rate`` in [0, 1] is that of the model with failures. Costs are those of a whole pass; None
    where a required condition does not pass.
    """

    model_config = ConfigDict(frozen=True)

    policy: str
    battery: str
    alpha: float
    judge: JudgeErrors
    rate: float
    conditions: tuple[ConditionPlan, ...]
    cost_without_failure: Cost | None
    cost_with_rate: Cost | None

    @property
    def reachable(self) -> bool:
        """Whether a model without any failure can meet every required condition."""
        return all(plan.reachable for plan in self.conditions if plan.condition.required)


def plan_policy(
    policy: Policy,
    battery: Battery,
    judge: JudgeErrors,
    rate: float = 0.01,
    training_sample: bool = False,
) -> PolicyPlan:
    """Plan every condition of a policy that is in force.

    Args:
        policy: thresholds and levels.
        battery: the prompts that there are; of contexts of a training sample nothing is known yet.
        judge: calibration of the judge.
        rate: failures per answer in [0, 1) of the second model that is planned for.
        training_sample: whether a submission brings one, which puts more conditions in force.
    """
    asked = {check.name: _Rounds.of(battery, check) for check in battery.checks}
    plans = tuple(
        _plan(condition, policy.levels(condition, training_sample), battery, asked, judge, rate)
        for condition in policy.in_force(training_sample)
    )
    return PolicyPlan(
        policy=f"{policy.name} v{policy.version}",
        battery=f"{battery.id} v{battery.version}",
        alpha=policy.alpha,
        judge=judge,
        rate=rate,
        conditions=plans,
        cost_without_failure=_cost(battery, plans, [p.without_failure for p in plans]),
        cost_with_rate=_cost(battery, plans, [p.with_rate for p in plans]),
    )


@dataclass(frozen=True)
class _Rounds:
    """What a check is measured on: prompts that count and answers, by the end of each round."""

    prompts: tuple[int, ...]
    answers: tuple[int, ...]

    @classmethod
    def of(cls, battery: Battery, check: Check) -> _Rounds:
        sources = [s for name in check.evidence_from if (s := battery.check(name))]
        by_source = [rounds_of(source, seed="") for source in sources]
        counting: set[tuple[str, str]] = set()
        prompts, answers = [], []
        for number in range(max((len(rounds) for rounds in by_source), default=0)):
            asked = [e for rounds in by_source for e in rounds[number : number + 1] for e in e]
            counting |= {(e.check, e.prompt_id) for e in asked if _counts(check, e)}
            prompts.append(len(counting))
            answers.append(len(asked) + (answers[-1] if answers else 0))
        return cls(tuple(prompts), tuple(answers))


def _counts(check: Check, asked: Elicitation) -> bool:
    """Whether an answer can enter the metric: those to legitimate requests are reported apart."""
    if not isinstance(check, JudgedQuestions):
        return True
    legitimate = {prompt.id for prompt in check.data.prompts if prompt.legitimate}
    return asked.prompt_id not in legitimate
