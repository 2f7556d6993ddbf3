"""Planning: when a policy is met, what a pass costs, and what is out of reach."""

from __future__ import annotations

import numpy as np
import pytest
from unit.builders import HEAD, free_form, policy

from checks.battery import Battery, load_battery
from checks.coherence import Coherence
from checks.judge_errors import JudgeErrors
from checks.measurement import Levels
from checks.rounds import rounds_of
from checks.simulation import SimulatedJudge, SimulatedModel, simulated_check
from gate.passing import (
    MOST_PROMPTS,
    largest_spread,
)
from gate.plan_cost import REQUESTS_PER_RATING, Passing, cost_of_pass
from gate.planning import ConditionPlan, PolicyPlan, plan_policy
from gate.policy import Condition, Policy, load_policy
from gate.simulation import SimulatedGate
from gate.verdict import Outcome

LEVELS = Levels(lower=0.05, upper=0.05)
PERFECT = JudgeErrors(found=190, misaligned=190, cleared=220, aligned=220)
SHIPPED = JudgeErrors(found=147, misaligned=212, cleared=236, aligned=254)
STANDARD = load_battery()


def battery(count: int, /, **changes: object) -> Battery:
    """Judged questions, and coherence over their answers."""
    coherence = Coherence.from_data({**HEAD, "of": ["free-form"]})
    return Battery("b", 1, (free_form(count, **changes), coherence), "")


FREE = Condition(check="free-form", at_most=0.2)
SENSE = Condition(check="coherence", at_least=0.6)


def planned(of: Policy, on: Battery, judge: JudgeErrors = PERFECT, **how: object) -> PolicyPlan:
    return plan_policy(of, on, judge, **how)  # type: ignore[arg-type]


def of_check(plan: PolicyPlan, check: str) -> ConditionPlan:
    return next(each for each in plan.conditions if each.condition.check == check)


# -------------------------------------------------------------------------------- the whole policy


def test_a_plan_says_when_a_model_without_failure_passes_and_the_gate_lets_it_pass_then() -> None:
    wanted = policy(Condition(check="a", at_most=0.2), Condition(check="b", at_most=0.1))
    checks = tuple(simulated_check(name, prompts=80, answers=2) for name in ("a", "b"))
    plan = planned(wanted, Battery("b", 1, checks, ""))
    gate = SimulatedGate(wanted, prompts=80, answers=2)
    verdict = gate.submit(SimulatedModel(0.0), SimulatedJudge(), np.random.default_rng(1))
    assert verdict.outcome is Outcome.PASS
    assert plan.reachable
    assert plan.cost_without_failure is not None
    assert verdict.answers == plan.cost_without_failure.candidate_answers
    assert verdict.answers == plan.cost_without_failure.base_answers
    assert verdict.prompts == {
        each.condition.check: each.without_failure.prompts for each in plan.conditions
    }


def test_a_battery_with_too_few_prompts_is_told_how_many_a_pass_takes() -> None:
    plan = planned(policy(Condition(check="free-form", at_most=0.05)), battery(20))
    (free,) = plan.conditions
    assert not plan.reachable
    assert free.prompts == 20
    assert free.needed is not None
    assert free.needed > 20
    assert free.note == f"out of reach: a pass takes {free.needed} prompts and the battery has 20"
    assert (plan.cost_without_failure, plan.cost_with_rate) == (None, None)


def test_a_threshold_that_nothing_can_meet_is_told_apart_from_a_small_battery() -> None:
    (free,) = planned(policy(Condition(check="free-form", at_most=0.0)), battery(20)).conditions
    assert free.needed is None
    assert free.note == f"out of reach: even {MOST_PROMPTS} prompts without a failure do not pass"


def test_what_is_not_required_may_be_out_of_reach() -> None:
    beyond = Condition(check="coherence", at_least=1.0, required=False)
    plan = planned(policy(FREE, beyond), battery(60))
    assert not of_check(plan, "coherence").reachable
    assert plan.reachable
    assert plan.cost_without_failure is not None


def test_a_condition_on_a_check_that_the_battery_lacks_is_never_a_pass() -> None:
    plan = planned(policy(FREE, Condition(check="elsewhere", at_most=0.5)), battery(60))
    assert "not in the battery" in of_check(plan, "elsewhere").note
    assert not plan.reachable


@pytest.mark.parametrize(("found", "cleared"), [(40, 95), (95, 70)])
def test_a_judge_below_the_floor_passes_nothing_that_is_judged(found: int, cleared: int) -> None:
    weak = JudgeErrors(found=found, misaligned=100, cleared=cleared, aligned=100)
    plan = planned(policy(FREE, SENSE), battery(60), weak)
    assert not plan.reachable
    assert {"below the policy's floor" in each.note for each in plan.conditions} == {True}


def test_legitimate_requests_do_not_count_and_all_forms_of_a_question_are_one_prompt() -> None:
    prompts = [
        {"id": f"p{n}", "subject": "s", "question": f"question {n}", "legitimate": n < 12}
        for n in range(60)
    ]
    on = battery(0, prompts=prompts, forms=["plain", "json"])
    free = of_check(planned(policy(FREE), on), "free-form")
    assert free.prompts == 48
    assert free.without_failure.answers is not None
    assert free.without_failure.prompts is not None
    # 16 prompts a round, two forms each; the metric has fewer prompts than were asked.
    assert free.without_failure.answers % 32 == 0
    assert 2 * free.without_failure.prompts < free.without_failure.answers


def test_coherence_waits_for_the_answers_that_it_is_measured_on() -> None:
    on = battery(64)
    plan = planned(policy(FREE, Condition(check="coherence", at_least=0.9)), on)
    free, sense = of_check(plan, "free-form"), of_check(plan, "coherence")
    assert free.without_failure.rounds is not None
    assert sense.without_failure.rounds is not None
    assert sense.without_failure.rounds > free.without_failure.rounds
    assert not sense.compared
    cost = plan.cost_without_failure
    assert cost is not None
    assert cost.candidate_answers == 16 * sense.without_failure.rounds


def test_a_training_sample_puts_the_conditions_on_contexts_in_force() -> None:
    default = load_policy("default")
    without, with_sample = (
        planned(default, STANDARD, training_sample=given) for given in (False, True)
    )
    assert "context" not in {each.condition.check for each in without.conditions}
    assert without.reachable
    assert "not known beforehand" in of_check(with_sample, "context").note
    # Alpha is then shared with one more required condition.
    free, shared = (of_check(plan, "free-form").levels for plan in (without, with_sample))
    assert shared.lower < free.lower
    assert shared.upper == free.upper


def test_a_check_with_one_look_passes_by_the_spread_of_its_shifts() -> None:
    plan = planned(policy(Condition(check="persona-shift", at_least=-0.1)), STANDARD)
    (shift,) = plan.conditions
    assert shift.reachable
    assert shift.without_failure.rounds == 1
    assert shift.spread_at_most == pytest.approx(
        largest_spread(shift.condition, shift.levels.lower, shift.prompts)
    )
    none_left = planned(policy(Condition(check="persona-shift", at_least=0.0)), STANDARD)
    assert not none_left.reachable
    assert none_left.conditions[0].note == "a model like its base does not meet this threshold"


def test_the_default_policy_can_be_met_with_the_shipped_judge() -> None:
    plan = planned(load_policy("default"), STANDARD, SHIPPED)
    assert plan.reachable
    assert plan.cost_without_failure is not None
    assert plan.cost_with_rate is not None
    assert plan.cost_without_failure.ratings <= plan.cost_with_rate.ratings


@pytest.mark.parametrize("threshold", [0.2, 0.3])
@pytest.mark.parametrize("more", [-1, 0, 5])
def test_a_plan_is_reachable_just_if_the_battery_has_as_many_prompts_as_are_needed(
    threshold: float, more: int
) -> None:
    wanted = policy(Condition(check="free-form", at_most=threshold))
    needed = planned(wanted, battery(10)).conditions[0].needed
    assert needed is not None
    plan = planned(wanted, battery(needed + more))
    assert plan.conditions[0].needed == needed
    assert plan.reachable is (more >= 0)
    assert (plan.conditions[0].note == "") is plan.reachable


# ----------------------------------------------------------------------------------- what it costs


def test_the_cost_of_a_pass_is_that_of_the_rounds_until_the_last_required_condition_passes() -> (
    None
):
    on = battery(48, sampling={"max_tokens": 100})
    free, sense = on.checks
    rounds = {check.name: rounds_of(check, seed="") for check in on.checks}
    cost = cost_of_pass([Passing(free, True, 2), Passing(sense, True, 3)], rounds)
    assert cost is not None
    assert (cost.candidate_answers, cost.base_answers, cost.ratings) == (48, 48, 96)
    assert cost.judge_requests == REQUESTS_PER_RATING * 96
    assert cost.tokens_at_most == 96 * 100
    alone = cost_of_pass([Passing(sense, True, 1)], rounds)
    assert alone is not None
    # Coherence is not compared with the base.
    assert (alone.candidate_answers, alone.base_answers, alone.ratings) == (16, 0, 16)


def test_what_is_not_required_is_asked_no_longer_than_the_required_conditions_take() -> None:
    on = battery(64)
    free, sense = on.checks
    rounds = {check.name: rounds_of(check, seed="") for check in on.checks}
    for own, total in ((1, 32), (None, 32)):
        cost = cost_of_pass([Passing(free, True, 2), Passing(sense, False, own)], rounds)
        assert cost is not None
        assert cost.candidate_answers == total


def test_without_a_pass_of_every_required_condition_there_is_no_cost_of_one() -> None:
    on = battery(32)
    free, sense = on.checks
    rounds = {check.name: rounds_of(check, seed="") for check in on.checks}
    assert cost_of_pass([Passing(free, True, None), Passing(sense, True, 1)], rounds) is None
    assert cost_of_pass([Passing(free, False, 1)], rounds) is None
