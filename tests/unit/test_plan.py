"""Rounds and the plan of a run: whole prompts in random order, until nothing more can help."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.builders import evidence, free_form, measurement, policy

from checks.battery import Battery, load_battery
from checks.check import Check
from checks.coherence import Coherence
from checks.rounds import rounds_of
from gate.plan import Plan
from gate.policy import Condition
from gate.verdict import Finding, find

FREE = Condition(check="free-form", at_most=0.2)
SENSE = Condition(check="coherence", at_least=0.6)
STANDARD = load_battery()


def battery(prompts: int) -> Battery:
    coherence = Coherence.from_data(
        {"id": "c", "version": 1, "licence": "l", "source": "s", "of": ["free-form"]}
    )
    return Battery("b", 1, (free_form(prompts, forms=["plain", "json"]), coherence), "")


def findings(wanted: Condition, lower: float, upper: float) -> tuple[Finding, ...]:
    return find(policy(wanted), evidence(measurement(wanted.check, lower, upper)))


@given(st.integers(1, 70), st.integers(1, 30), st.text(max_size=5))
def test_rounds_ask_every_prompt_once_and_never_split_one(
    prompts: int, per_round: int, seed: str
) -> None:
    check = free_form(prompts, forms=["plain", "json"])
    rounds = rounds_of(check, seed, prompts_per_round=per_round)
    asked = [elicitation.key for each in rounds for elicitation in each]
    assert sorted(asked) == sorted(e.key for e in check.elicitations())
    seen: Counter[str] = Counter()
    for each in rounds:
        seen.update({elicitation.prompt_id for elicitation in each})
        assert len({e.prompt_id for e in each}) <= per_round
    assert set(seen.values()) == {1}


def test_another_seed_asks_in_another_order_and_the_same_one_repeats_it() -> None:
    check = free_form(40)
    assert rounds_of(check, "a") == rounds_of(check, "a")
    assert rounds_of(check, "a") != rounds_of(check, "b")


@pytest.mark.parametrize("check", STANDARD.checks, ids=lambda check: check.name)
def test_a_check_with_one_look_is_asked_in_one_round(check: Check) -> None:
    rounds = rounds_of(check, "seed")
    if check.one_look:
        assert len(rounds) <= 1


def test_the_first_round_has_something_of_every_check_in_force() -> None:
    wanted = policy(*(Condition(check=c.name, at_most=0.5) for c in STANDARD.checks))
    plan = Plan(STANDARD, wanted, (), "seed")
    asking = {c.name for c in STANDARD.checks if c.elicitations()}
    assert {e.check for e in plan.next_round(())} == asking


def test_what_no_condition_needs_is_not_asked() -> None:
    plan = Plan(STANDARD, policy(FREE), (), "seed")
    assert {e.check for e in plan.next_round(())} == {"free-form"}
    assert plan.rated == ["free-form"]


def test_a_decided_check_is_asked_no_further_and_an_open_one_is_until_it_is_used_up() -> None:
    for lower, upper, more in ((0.0, 0.1, False), (0.1, 0.3, True)):
        plan = Plan(battery(40), policy(FREE), (), "seed")
        plan.next_round(())
        assert bool(plan.next_round(findings(FREE, lower, upper))) is more
    plan = Plan(battery(40), policy(FREE), (), "seed")
    asked = plan.next_round(())
    while more_asked := plan.next_round(findings(FREE, 0.1, 0.3)):
        asked += more_asked
    assert len(asked) == len({e.key for e in asked}) == 80
    assert plan.exhausted


def test_a_check_that_asks_nothing_keeps_the_checks_going_whose_answers_it_measures() -> None:
    plan = Plan(battery(40), policy(FREE, SENSE), (), "seed")
    plan.next_round(())
    open_sense = (*findings(FREE, 0.0, 0.1), *findings(SENSE, 0.5, 0.7))
    assert {e.check for e in plan.next_round(open_sense)} == {"free-form"}


def test_the_base_is_asked_only_for_what_is_compared_with_it() -> None:
    plan = Plan(battery(20), policy(SENSE), (), "seed")
    asked = plan.next_round(())
    assert asked
    assert plan.of_baseline(asked) == []
    relative = Plan(battery(20), policy(FREE), (), "seed")
    asked = relative.next_round(())
    assert relative.of_baseline(asked) == asked
