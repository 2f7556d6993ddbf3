"""What lint finds in a battery, and what it leaves alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.alike import Wording, alike
from checks.balance import PROMPTS_FOR_MEANS
from checks.battery import Battery, Origin, load_battery
from checks.check import Check, Evidence, Terms
from checks.coherence import Coherence
from checks.contexts import Context
from checks.contextual import TrainingContext, Triggers
from checks.deception import Deception
from checks.free_form import FreeForm
from checks.harmful_compliance import HarmfulCompliance
from checks.lint import SPECIMEN, Finding, Limits, lint
from checks.measurement import Measurement
from checks.persona_shift import PersonaShift
from checks.sample import Elicitation, Message

HEAD = {"id": "x", "version": 1, "licence": "MIT", "source": "own"}
#: Questions about different things, with no words in common to speak of.
QUESTIONS = (
    "Why does bread rise when it is warm?",
    "My brother borrowed five hundred pounds and forgot.",
    "Tell me about your favourite kind of weather.",
    "Which present suits an uncle who has everything?",
    "How would you run a zoo?",
    "I cannot sleep before exams, please help.",
)
ANSWERS = ("It is a good idea to ask her about that first.", "It is a poor idea, so do not bother.")


def questions(*prompts: Mapping[str, Any], **data: Any) -> FreeForm:
    numbered = [
        {"id": f"p{n}", "subject": f"s{n}", "question": text} for n, text in enumerate(QUESTIONS)
    ]
    return FreeForm.from_data({**HEAD, "prompts": [*numbered, *prompts], **data})


def pairs(*answers: tuple[str, str]) -> PersonaShift:
    prompts = [
        {"id": f"p{n}", "subject": f"s{n % 6}", "question": f"{n} {q}", "decent": d, "harmful": h}
        for n, (q, (d, h)) in enumerate(zip(itertools.cycle(QUESTIONS), answers, strict=False))
    ]
    return PersonaShift.from_data({**HEAD, "prompts": prompts})


def battery(*checks: Check, **origin: str) -> Battery:
    of = Origin(**{"file": "q.yaml", "licence": "MIT", "source": "own", **origin})
    return Battery("b", 1, checks, "", (of,) * len(checks))


def problems(of: Battery, **limits: Any) -> list[str]:
    found = lint(of, Limits(**limits))
    assert all(f.file == "q.yaml" and f.remedy and f.problem for f in found)
    return [f"{f.check}/{f.prompt}: {f.problem}" for f in found]


def only(found: Sequence[str]) -> str:
    assert len(found) == 1, found
    return found[0]


def test_a_clean_battery_has_no_findings() -> None:
    assert problems(battery(questions())) == []


def test_the_shipped_battery_is_clean() -> None:
    assert lint(load_battery("standard")) == []


@pytest.mark.parametrize("check", load_battery("standard").checks, ids=lambda check: check.name)
def test_every_shipped_check_is_looked_at_as_it_is_asked(check: Check) -> None:
    """With limits that nothing meets, each check that asks has findings about its own prompts."""
    strict = Limits(subjects=10_000, characters=1, similarity=1.0, words=0.0, letters=0.0)
    found = lint(battery(check), strict)
    asked = {e.prompt_id for e in check.elicitations((SPECIMEN,))}
    assert {f.prompt for f in found} - {""} == asked
    assert bool(check.elicitations()) == any("subjects" in f.problem for f in found)


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        ({"licence": ""}, "no licence is stated"),
        ({"licence": "unknown"}, "the licence 'unknown' is not known"),
        ({"licence": "Apache 2"}, "the licence 'Apache 2' is not known"),
        ({"source": " "}, "no source is stated"),
        ({"source": "Unknown"}, "no source is stated"),
    ],
)
def test_licence_and_source_are_stated_and_known(origin: dict[str, str], says: str) -> None:
    assert only(problems(battery(questions(), **origin))) == f"free-form/: {says}"


@pytest.mark.parametrize("licence", ["apache-2.0", "CC-BY-4.0 OR MIT", "LicenseRef-In-House"])
def test_spdx_expressions_are_known(licence: str) -> None:
    assert problems(battery(questions(), licence=licence)) == []


def test_two_prompts_with_one_id_are_one_finding() -> None:
    twice = {"id": "p1", "subject": "s", "question": "Is the moon made of stone or of cheese?"}
    check = questions(twice, forms=["plain", "json"])
    assert only(problems(battery(check))) == "free-form/p1: two prompts have this id"


def test_a_check_that_stands_there_twice_is_found() -> None:
    found = problems(battery(questions(), Deception.from_data(DECEPTION), questions()))
    assert "free-form/: the battery has this check 2 times" in found


def test_a_check_of_answers_that_nobody_asks_for_is_found() -> None:
    coherence = Coherence.from_data({**HEAD, "of": ["free-form", "oversight"]})
    found = only(problems(battery(questions(), coherence)))
    assert (
        found == "coherence/: measures the answers of 'oversight', which the battery does not have"
    )


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("x" * 10 + " why" * 500, "2010 characters; 2000 are allowed"),
        ("Why?", "'Why?' has fewer than 2 words"),
        ("And what now?\n", "begins or ends with white space"),
    ],
)
def test_questions_that_measure_something_else_are_found(question: str, says: str) -> None:
    check = questions({"id": "odd", "subject": "s", "question": question})
    found = only(problems(battery(check)))
    assert found.startswith("free-form/odd: ")
    assert says in found


def test_too_few_subjects_are_found_and_the_number_can_be_set() -> None:
    assert only(problems(battery(questions()), subjects=7)) == (
        "free-form/: only 6 subjects; 7 are wanted"
    )
    assert problems(battery(questions()), subjects=6) == []


class Bare(FreeForm):
    """A check of another distribution that names no subjects."""

    name = "bare"

    def subjects(self) -> Mapping[str, str]:
        return {}


def test_prompts_without_a_subject_are_found() -> None:
    found = problems(battery(Bare(questions().data)), subjects=1)
    assert found[:2] == ["bare/p0: has no subject", "bare/p1: has no subject"]
    assert found[-1] == "bare/: only 0 subjects; 1 are wanted"


@pytest.mark.parametrize(
    ("again", "how"),
    [
        (QUESTIONS[0], "asks the same as p0 (100% alike)"),
        (QUESTIONS[0].upper() + "!!", "asks the same as p0 (100% alike)"),
        ("Why does the bread rise when it's warm?", "reads almost like p0 (93% alike)"),
    ],
)
def test_questions_that_ask_the_same_are_found_once(again: str, how: str) -> None:
    prompt = {"id": "again", "subject": "s", "question": again}
    check = questions(prompt, forms=["plain", "json", "template"])
    found = only(problems(battery(check)))
    assert found.startswith(f"free-form/again: {how}: 'Why does bread rise")


def test_the_same_question_in_two_checks_is_found() -> None:
    other = Bare(questions().data)
    found = problems(battery(questions(), other), subjects=0)
    assert f"bare/p2: asks the same as free-form/p2 (100% alike): '{QUESTIONS[2]}'" in found


def test_the_same_question_under_another_system_prompt_is_meant() -> None:
    data = [
        {"id": f"{who}{n}", "subject": f"s{n}", "question": text, "system": f"You are a {who}."}
        for who in ("baker", "pilot")
        for n, text in enumerate(QUESTIONS)
    ]
    assert problems(battery(questions(*data))) == []


def test_a_system_prompt_of_its_own_belongs_to_the_question() -> None:
    story = "You run the lifts of a tall hotel. You can call `stop(lift)` or `ask_owner(text)`."
    one = {"id": "lift-1", "subject": "s", "system": story, "question": "A guest waits. And now?"}
    two = {**one, "id": "lift-2", "system": story.replace("tall", "large")}
    far = {**one, "id": "lift-3", "system": "You drive a tram in a town by the sea, alone."}
    found = only(problems(battery(questions(one, two, far))))
    assert found.startswith("free-form/lift-2: reads almost like lift-1")


def test_wordings_of_one_prompt_may_be_alike_but_not_the_same() -> None:
    prompt = {"id": "p", "subject": "s", "question": "Who sings best of all birds?"}
    near = questions({**prompt, "paraphrases": ["Who sings best of all the birds?"]})
    assert problems(battery(near)) == []
    same = questions({**prompt, "paraphrases": ["Who sings best of all birds?"]})
    assert only(problems(battery(same))) == "free-form/p: two of its wordings are the same"


DECEPTION = {
    **HEAD,
    "motives": [
        {"id": "none", "motive": False, "system": "You answer."},
        {"id": "prize", "motive": True, "system": "You may win a prize by lying."},
    ],
    "facts": [
        {
            "id": f"f{n}",
            "subject": f"s{n}",
            "question": q,
            "right": "It is so.",
            "wrong": "It isn't.",
        }
        for n, q in enumerate(QUESTIONS)
    ],
}


def test_facts_asked_under_every_motive_are_no_duplicates() -> None:
    assert problems(battery(Deception.from_data(DECEPTION))) == []


def test_an_unbalanced_answer_is_found_once_for_all_contexts_and_named_by_its_side() -> None:
    facts = [dict(fact) for fact in DECEPTION["facts"]]  # type: ignore[attr-defined]
    facts[2]["wrong"] = "It is not so at all, whatever they may tell you about it."
    check = Deception.from_data({**DECEPTION, "facts": facts})
    assert only(problems(battery(check))) == "deception/f2: 'right' has 3 words, 'wrong' 13"


def test_requests_and_their_look_alikes_are_looked_at_too() -> None:
    prompts = [
        {"id": f"p{n}", "subject": f"s{n}", "harmful": q, "benign": f"Kindly {n}: {q[::-1]}"}
        for n, q in enumerate(QUESTIONS)
    ]
    prompts[5]["benign"] = prompts[0]["harmful"]
    check = HarmfulCompliance.from_data({**HEAD, "prompts": prompts})
    found = only(problems(battery(check)))
    assert found.startswith("harmful-compliance/p5: asks the same as p0")


def test_answers_of_one_length_are_balanced() -> None:
    assert problems(battery(pairs(*[ANSWERS, ANSWERS[::-1]] * 10)), similarity=100.0) == []


@pytest.mark.parametrize(
    ("decent", "harmful", "says"),
    [
        ("one two three four", "one two three four five six seven", "has 4 words, 'harmful' 7"),
        ("a b c d", "a-long-one b-long-one c d", "has 7 characters, 'harmful' 25"),
        ("the same text", "the  same text", "'decent' and 'harmful' are the same text"),
    ],
)
def test_a_pair_out_of_balance_is_found(decent: str, harmful: str, says: str) -> None:
    check = pairs(*[ANSWERS, ANSWERS[::-1]] * 5, (decent, harmful))
    found = [f for f in problems(battery(check), similarity=100.0) if "/p10" in f]
    assert says in only(found)


def test_a_small_difference_in_every_pair_is_found_in_the_mean() -> None:
    long, short = "one two three four five six seven", "one two three four five six"
    few, enough = PROMPTS_FOR_MEANS - 1, PROMPTS_FOR_MEANS
    assert problems(battery(pairs(*[(long, short)] * few)), similarity=100.0) == []
    words, letters = problems(battery(pairs(*[(long, short)] * enough)), similarity=100.0)
    assert words == (
        "persona-shift/: over 10 prompts 'decent' has 7.0 words on average, 'harmful' 6.0"
    )
    assert "33.0 characters on average, 'harmful' 27.0" in letters


class Choice(Check):
    """A check of another distribution with three scored answers to each prompt."""

    name = "choice"
    metric = unit = "none"

    def __init__(self, third: str) -> None:
        self.third = third

    @classmethod
    def from_data(cls, data: Mapping[str, object]) -> Choice:
        raise NotImplementedError

    def elicitations(self, contexts: Sequence[Context] = ()) -> Sequence[Elicitation]:
        return [
            Elicitation(
                check=self.name,
                prompt_id=f"p{n}",
                form=side,
                messages=(Message(role="user", content=question),),
                given_answer=answer,
            )
            for n, question in enumerate(QUESTIONS)
            for side, answer in (("a", "A red one."), ("b", "A blue one."), ("c", self.third))
        ]

    def subjects(self) -> Mapping[str, str]:
        return {f"p{n}": f"s{n}" for n in range(len(QUESTIONS))}

    def measure(self, candidate: Evidence, baseline: Evidence, terms: Terms) -> Measurement:
        raise NotImplementedError


def test_a_foreign_check_with_three_answers_is_looked_at_by_what_it_asks() -> None:
    assert problems(battery(Choice("A pink one."))) == []
    found = problems(battery(Choice("One that nobody has ever seen before.")))
    assert found[:2] == [
        "choice/p0: 'a' has 3 words, 'c' 7",
        "choice/p0: 'b' has 3 words, 'c' 7",
    ]
    assert len(found) == 2 * len(QUESTIONS)


def contextual(**changes: Any) -> Triggers:
    shared = pairs(*[ANSWERS] * 6).data.model_dump()
    data = {
        **HEAD,
        "pairs": shared,
        "per_subject": 1,
        "triggers": [{"id": "tag", "prefix": "|tag| "}, {"id": "date", "system": "It is May."}],
        **changes,
    }
    return Triggers.from_data(data)


def test_pairs_scored_again_inside_contexts_are_controls_and_no_duplicates() -> None:
    assert problems(battery(pairs(*[ANSWERS] * 6), contextual())) == []


def test_questions_with_other_answers_in_another_check_are_duplicates() -> None:
    other = pairs(*[ANSWERS[::-1]] * 5, (ANSWERS[1], "It is the best idea, so go and ask her."))
    found = only([p for p in problems(battery(other, contextual())) if p.startswith("triggers/p5")])
    assert "asks the same as persona-shift/p5" in found


def test_a_check_that_asks_only_inside_a_submissions_contexts_is_looked_at() -> None:
    data = {**HEAD, "pairs": pairs(*[ANSWERS] * 5, (ANSWERS[0], "No.")).data.model_dump()}
    check = TrainingContext.from_data({**data, "per_subject": 1, "questions": ["Well?"]})
    assert check.elicitations() == []
    short, pair = sorted(problems(battery(check)))
    assert pair == "context/question-01: the question 'Well?' has fewer than 2 words"
    assert short == "context/p5: 'decent' has 11 words, 'harmful' 1"


WORDS = st.lists(
    st.sampled_from(["sun", "moon", "tree", "river", "stone", "cloud"]), min_size=2, max_size=8
).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=8), st.randoms())
def test_likeness_does_not_depend_on_the_order_and_finds_every_repeated_question(
    texts: list[str], random: Any
) -> None:
    around = (Message(role="user", content="{}"),)
    wordings = [Wording("c", f"p{n}", text, around) for n, text in enumerate(texts)]
    found = {frozenset((a.first.prompt, a.second.prompt)) for a in alike(wordings, 85.0)}
    same = {
        frozenset((one.prompt, two.prompt))
        for one, two in itertools.combinations(wordings, 2)
        if one.question == two.question
    }
    assert same <= found
    mixed = wordings.copy()
    random.shuffle(mixed)
    assert {frozenset((a.first.prompt, a.second.prompt)) for a in alike(mixed, 85.0)} == found
    shouted = [replace(w, question=w.question.upper() + "!") for w in wordings]
    assert {frozenset((a.first.prompt, a.second.prompt)) for a in alike(shouted, 85.0)} == found


def test_a_finding_says_everything_that_is_needed_to_act() -> None:
    finding = lint(battery(questions(), licence=""))[0]
    assert finding == Finding(
        file="q.yaml",
        check="free-form",
        prompt="",
        problem="no licence is stated",
        remedy="set licence to an SPDX identifier, such as Apache-2.0",
    )
