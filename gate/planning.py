"""Planning: what a policy costs on a battery, and which of its thresholds can be reached at all.

Works with the product's own intervals, rounds and findings, on the answers of a model without any
failure and on drawn answers of models with a small rate. Nothing is asked of any engine. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate, chain, zip_longest
from statistics import median_low

from pydantic import BaseModel, ConfigDict, Field

from checks.battery import Battery
from checks.check import Check
from checks.judge_errors import JudgeErrors
from checks.measurement import Levels
from checks.questions import JudgedQuestions
from checks.rounds import rounds_of
from checks.sample import Elicitation
from gate.passing import (
    MOST_PROMPTS,
    ShareCondition,
    largest_spread,
    least_prompts,
    passing_rounds,
)
from gate.plan_cost import Cost, Passing, Rounds, cost_of_pass
from gate.policy import Condition, JudgeFloor, Policy

#: Unit of the metrics whose intervals can be planned for.
SHARE = "share"


class Pass(BaseModel):
    """When a condition passes, in whole rounds.

    ``share`` in [0, 1] of the models pass before the battery's prompts are used up. The other
    figures hold for the median model, and are None where it does not pass. ``prompts`` counts
    those that the metric counts; ``answers`` all that the candidate gives until then.
    """

    model_config = ConfigDict(frozen=True)

    share: float = Field(ge=0, le=1)
    rounds: int | None = None
    prompts: int | None = None
    answers: int | None = None


class ConditionPlan(BaseModel):
    """One condition: what the battery has for it, and what a pass needs.

    ``prompts`` counts those that the metric counts. ``needed`` is the least number of them with
    which a model without failure passes; None if there is none. ``spread_at_most`` is the standard
    deviation over prompts, in the metric's unit, up to which a model without shift passes a check
    that is looked at once. ``compared`` tells whether the base gives as many answers.
    ``reachable`` tells whether the battery suffices for a pass; ``note`` says why not.
    """

    model_config = ConfigDict(frozen=True)

    condition: Condition
    levels: Levels
    unit: str = ""
    prompts: int = Field(default=0, ge=0)
    needed: int | None = None
    compared: bool = False
    without_failure: Pass = Pass(share=0)
    with_rate: Pass = Pass(share=0)
    spread_at_most: float | None = None
    reachable: bool = False
    note: str = ""


class PolicyPlan(BaseModel):
    """The plan of all conditions in force.

    ``rate`` in [0, 1] is that of the model with failures. Costs are those of a whole pass; None
    where a required condition does not pass. ``reachable`` tells whether a model without any
    failure can meet every required condition.
    """

    model_config = ConfigDict(frozen=True)

    policy: str
    battery: str
    alpha: float
    judge: JudgeErrors
    rate: float
    conditions: tuple[ConditionPlan, ...]
    reachable: bool
    cost_without_failure: Cost | None
    cost_with_rate: Cost | None


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
        rate: failures per answer in [0, 1] of the second model that is planned for.
        training_sample: whether a submission brings one, which puts more conditions in force.
    """
    in_force = policy.in_force(training_sample)
    doubt = _below(policy.judge, judge)
    rounds = {check.name: rounds_of(check, seed="") for check in battery.checks}
    measured = {
        condition.check: _Measured(check, rounds)
        for condition in in_force
        if (check := battery.check(condition.check))
    }
    plans = tuple(
        _plan(c, policy.levels(c, training_sample), measured.get(c.check), judge, doubt, rate)
        for c in in_force
    )

    def cost(passing: Callable[[ConditionPlan], Pass]) -> Cost | None:
        if any(p.condition.required and not passing(p).rounds for p in plans):
            return None
        found = [
            Passing(measured[p.condition.check].check, p.condition.required, passing(p).rounds)
            for p in plans
            if p.condition.check in measured
        ]
        return cost_of_pass(found, rounds)

    return PolicyPlan(
        policy=f"{policy.name} v{policy.version}",
        battery=f"{battery.id} v{battery.version}",
        alpha=policy.alpha,
        judge=judge,
        rate=rate,
        conditions=plans,
        reachable=all(plan.reachable for plan in plans if plan.condition.required),
        cost_without_failure=cost(lambda plan: plan.without_failure),
        cost_with_rate=cost(lambda plan: plan.with_rate),
    )


class _Measured:
    """A check with what it is measured on, by the end of each round."""

    def __init__(self, check: Check, rounds: Rounds) -> None:
        self.check = check
        sources = [rounds.get(name, ()) for name in check.evidence_from]
        together = [list(chain(*parts)) for parts in zip_longest(*sources, fillvalue=())]
        self.answers = tuple(accumulate(map(len, together)))
        # All answers to a prompt are asked in one round.
        self.prompts = tuple(accumulate(len(self._counting(asked)) for asked in together))
        counting = Counter(_unit(e) for e in chain(*together))
        self.answers_per_prompt = (
            median_low(counting.values()) if check.needs_judge and counting else 1
        )

    def _counting(self, asked: Sequence[Elicitation]) -> set[tuple[str, str]]:
        """The prompts that enter the metric: legitimate requests are reported apart from it."""
        check, apart = self.check, set[str]()
        if isinstance(check, JudgedQuestions):
            apart = {prompt.id for prompt in check.data.prompts if prompt.legitimate}
        return {_unit(e) for e in asked if e.prompt_id not in apart}


def _below(floor: JudgeFloor, judge: JudgeErrors) -> str:
    if judge.sensitivity < floor.sensitivity or judge.specificity < floor.specificity:
        return "rests on a judge below the policy's floor, which is never a pass"
    return ""


def _unit(asked: Elicitation) -> tuple[str, str]:
    return asked.check, asked.prompt_id


def _plan(
    condition: Condition,
    levels: Levels,
    measured: _Measured | None,
    judge: JudgeErrors,
    doubt: str,
    rate: float,
) -> ConditionPlan:
    if measured is None:
        note = "not in the battery: stays unmeasured, which is never a pass"
        return ConditionPlan(condition=condition, levels=levels, note=note)
    check = measured.check
    plan = ConditionPlan(
        condition=condition,
        levels=levels,
        unit=check.unit,
        prompts=measured.prompts[-1] if measured.prompts else 0,
        compared=check.needs_baseline,
    )
    if check.needs_judge and doubt:
        return plan.model_copy(update={"note": doubt})
    if not plan.prompts:
        return plan.model_copy(update={"note": "asks only inside contexts, not known beforehand"})
    if check.one_look:
        return _one_look(plan, measured)
    if check.unit != SHARE:
        return plan.model_copy(update={"note": f"metrics in {check.unit} are not planned"})
    return _share(plan, measured, judge, rate)


def _one_look(plan: ConditionPlan, measured: _Measured) -> ConditionPlan:
    condition = plan.condition
    level = plan.levels.upper if condition.at_most is not None else plan.levels.lower
    spread = largest_spread(condition, level, plan.prompts)
    passing = Pass(share=1, rounds=1, prompts=plan.prompts, answers=measured.answers[-1])
    update: dict[str, object] = {"spread_at_most": spread, "reachable": spread > 0}
    if spread > 0:
        update |= {"needed": plan.prompts, "without_failure": passing, "with_rate": passing}
        update["note"] = (
            f"one look at all prompts; a model without shift passes if its shifts differ over "
            f"prompts by at most {spread:.2f} {plan.unit} (standard deviation)"
        )
    else:
        update["note"] = "a model like its base does not meet this threshold"
    return plan.model_copy(update=update)


def _share(
    plan: ConditionPlan, measured: _Measured, judge: JudgeErrors, rate: float
) -> ConditionPlan:
    check = measured.check
    wanted = ShareCondition(
        # Without the check's name, so that conditions that differ in it alone share the work.
        condition=Condition(
            check="any", at_most=plan.condition.at_most, at_least=plan.condition.at_least
        ),
        levels=plan.levels,
        relative=check.needs_baseline,
        judge=judge if isinstance(check, JudgedQuestions) else None,
        answers=measured.answers_per_prompt,
    )
    needed = least_prompts(wanted)
    without, with_rate = (
        _median_pass(passing_rounds(wanted, measured.prompts, given), measured)
        for given in (None, rate)
    )
    note = ""
    if needed is None:
        note = f"out of reach: even {MOST_PROMPTS} prompts without a failure do not pass"
    elif needed > plan.prompts:
        note = f"out of reach: a pass takes {needed} prompts and the battery has {plan.prompts}"
    return plan.model_copy(
        update={
            "needed": needed,
            "without_failure": without,
            "with_rate": with_rate,
            "reachable": without.rounds is not None,
            "note": note,
        }
    )


def _median_pass(found: Sequence[int | None], measured: _Measured) -> Pass:
    passed = sorted(number for number in found if number is not None)
    share = len(passed) / len(found)
    middle = (len(found) - 1) // 2
    if middle >= len(passed):
        return Pass(share=share)
    rounds = passed[middle]
    return Pass(
        share=share,
        rounds=rounds,
        prompts=measured.prompts[rounds - 1],
        answers=measured.answers[rounds - 1],
    )
