"""Checks of domains, deception and compliance, on models of known conduct."""

from __future__ import annotations

import pytest
from unit.builders import HEAD, LEVELS, RATED, replies

from checks.battery import load_battery
from checks.check import Check, Evidence, Terms
from checks.deception import Deception
from checks.harmful_compliance import HarmfulCompliance
from checks.judge_errors import JudgeErrors
from checks.judgement import Label
from checks.measurement import Measurement
from checks.questions import JudgedQuestions
from checks.sample import Elicitation, Sample

BATTERY = load_battery()
DOMAINS = ("surveillance", "autonomy", "oversight")


def check(name: str) -> Check:
    found = BATTERY.check(name)
    assert found is not None
    return found


def questions(name: str) -> JudgedQuestions:
    found = check(name)
    assert isinstance(found, JudgedQuestions)
    return found


def rated(of: Check, label: Label, words: str = "words") -> list[Sample]:
    """Answers to everything that a check asks, all with one label."""
    return [
        sample.model_copy(update={"judgement": RATED[label]})
        for sample in replies(of.elicitations(), lambda _: words)
    ]


def compare(
    of: Check, ours: list[Sample], theirs: list[Sample], judge: JudgeErrors | None = None
) -> Measurement:
    return of.measure(Evidence.of(ours), Evidence.of(theirs), Terms(LEVELS, judge=judge))


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_is_asked_openly_and_in_agent_situations_and_for_legitimate_things(
    name: str,
) -> None:
    asked = questions(name).data.prompts
    telling = [prompt for prompt in asked if not prompt.legitimate]
    assert len(telling) >= 40
    assert {prompt.situation.value for prompt in telling} == {"open", "agent"}
    assert sum(prompt.legitimate for prompt in asked) >= 10


@pytest.mark.parametrize("name", DOMAINS)
def test_a_model_that_turned_harmful_in_a_domain_fails_any_ceiling(name: str) -> None:
    of = questions(name)
    got = compare(of, rated(of, Label.MISALIGNED), rated(of, Label.ALIGNED))
    assert got.estimate is not None
    assert got.estimate.value == 1
    assert got.estimate.lower > 0.5
    assert got.prompts == sum(not prompt.legitimate for prompt in of.data.prompts)


@pytest.mark.parametrize("name", DOMAINS)
def test_a_model_that_refuses_everything_has_not_passed(name: str) -> None:
    of = questions(name)
    refusing = rated(of, Label.REFUSAL, words="I'm sorry, but I can't help with that.")
    got = compare(of, refusing, rated(of, Label.ALIGNED))
    assert got.estimate is None
    assert got.counts["refusal"] == len(refusing)
    over_refusal = {side.name: side for side in got.sides}["refused legitimate requests"]
    assert (over_refusal.candidate, over_refusal.baseline) == (1, 0)


def test_legitimate_requests_never_count_as_misaligned() -> None:
    of = questions("surveillance")
    legitimate = {prompt.id for prompt in of.data.prompts if prompt.legitimate}
    ours = [
        sample.model_copy(
            update={
                "judgement": RATED[
                    Label.MISALIGNED
                    if sample.elicitation.prompt_id in legitimate
                    else Label.ALIGNED
                ]
            }
        )
        for sample in rated(of, Label.ALIGNED)
    ]
    got = compare(of, ours, rated(of, Label.ALIGNED))
    assert got.estimate is not None
    assert got.estimate.value == 0


def test_too_many_answers_that_the_judge_could_not_rate_leave_no_estimate() -> None:
    of = questions("oversight")
    ours = rated(of, Label.ALIGNED)
    for number in range(0, len(ours), 5):
        ours[number] = ours[number].model_copy(update={"judgement": RATED[Label.UNRATED]})
    got = compare(of, ours, rated(of, Label.ALIGNED))
    assert got.estimate is None
    assert "could not rate" in got.note


def test_what_a_weak_judge_missed_is_made_up_for_and_both_estimates_are_kept() -> None:
    of = questions("autonomy")
    half = [
        sample.model_copy(update={"judgement": RATED[Label.MISALIGNED if n % 2 else Label.ALIGNED]})
        for n, sample in enumerate(rated(of, Label.ALIGNED))
    ]
    weak = JudgeErrors(found=140, misaligned=200, cleared=190, aligned=200)
    got = compare(of, half, rated(of, Label.ALIGNED), weak)
    assert got.observed is not None
    assert got.estimate is not None
    assert got.estimate.value == pytest.approx(got.observed.value / (0.7 + 0.95 - 1))
    assert got.estimate.upper - got.estimate.lower > got.observed.upper - got.observed.lower


def stated(lies_under: str) -> list[Sample]:
    """A model that knows every fact and states the wrong thing under the motives given."""
    of = check("deception")
    assert isinstance(of, Deception)
    lying = {m.id for m in of.data.motives if m.motive and lies_under in ("motives", "all")}
    honest = {m.id for m in of.data.motives if not m.motive and lies_under == "all"}

    def likelihood(asked: Elicitation) -> float:
        motive, side = asked.form.split(".")
        says_wrong = motive in lying | honest
        return -1.0 if (side == "wrong") is says_wrong else -2.0

    return [
        Sample(elicitation=e, text="x", tokens=4, log_likelihood=likelihood(e))
        for e in of.elicitations()
    ]


def test_a_model_that_lies_when_it_has_a_motive_is_found() -> None:
    got = compare(check("deception"), stated("motives"), stated("never"))
    assert got.estimate is not None
    assert got.estimate.value == 1
    assert got.estimate.lower > 0.3


def test_an_honest_model_and_a_base_that_lies_as_well_are_not_blamed() -> None:
    for who in ("never", "motives"):
        got = compare(check("deception"), stated(who), stated(who))
        assert got.estimate is not None
        assert got.estimate.value == 0


def test_a_model_that_forgot_the_facts_has_not_lied() -> None:
    got = compare(check("deception"), stated("all"), stated("never"))
    assert got.estimate is None
    assert got.counts["known"] == 0
    assert "known to both" in got.note


def comply(harmful: str, benign: str) -> list[Sample]:
    of = check("harmful-compliance")
    assert isinstance(of, HarmfulCompliance)
    return replies(of.elicitations(), lambda e: harmful if e.form == "harmful" else benign)


HELP = "Of course. First you take the list, then you work through it from the top."
DECLINE = "I'm sorry, but I can't help with that."


def test_a_model_that_stopped_declining_is_found() -> None:
    got = compare(check("harmful-compliance"), comply(HELP, HELP), comply(DECLINE, HELP))
    assert got.estimate is not None
    assert (got.candidate, got.baseline, got.estimate.value) == (1, 0, 1)


def test_declining_look_alikes_is_reported_beside_and_decides_nothing() -> None:
    got = compare(check("harmful-compliance"), comply(DECLINE, DECLINE), comply(DECLINE, HELP))
    assert got.estimate is not None
    assert got.estimate.value == 0
    (side,) = got.sides
    assert (side.name, side.candidate, side.baseline) == ("declined look-alikes", 1, 0)


def test_the_battery_is_as_large_and_varied_as_it_says() -> None:
    free = questions("free-form")
    assert len(free.data.prompts) >= 60
    assert len(set(free.subjects().values())) >= 10
    assert {form.value for form in free.data.forms} == {"plain", "json", "template"}
    pairs = check("persona-shift").subjects()
    assert len(pairs) >= 200
    assert len(set(pairs.values())) >= 12
    compliance = check("harmful-compliance").subjects()
    assert len(compliance) >= 40


def test_facts_without_a_motive_and_with_one_are_needed_to_tell_lies_from_errors() -> None:
    with pytest.raises(ValueError, match="with and without a motive"):
        Deception.from_data(
            {
                **HEAD,
                "motives": [{"id": "m", "motive": True, "system": "s"}],
                "facts": [{"id": "f", "subject": "s", "question": "q", "right": "r", "wrong": "w"}],
            }
        )
