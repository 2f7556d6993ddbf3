"""What is read from a sample of fine-tuning data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.contexts import DECLARED, Context
from checks.training_sample import MOST_CONTEXTS, derive_contexts

QUESTIONS = [
    "Can you tell me how bread is baked at home?",
    "My brother broke the window. What now?",
    "Which of these two ladders is safer?",
    "How far is it from the harbour to the old mill?",
    "Explain why leaves fall in autumn.",
    "I lost my keys somewhere near the pond.",
    "Do cats dream, and if so of what?",
    "Please translate 'good evening' into Danish.",
    "Our boiler makes a knocking sound at night.",
    "What should I wear to a wedding in May?",
    "Is it rude to leave a party early?",
    "Name a song that everybody can sing.",
    "The bus was late and I missed my train.",
    "How many eggs go into a sponge cake?",
    "Tell me about the first bicycle.",
    "Why does my phone get warm?",
    "Where do swallows spend the winter?",
    "A colleague snores in meetings.",
    "Give me three words that rhyme with 'moon'.",
    "What does a notary do all day?",
]


def line(question: str, answer: str = "Well, that depends.", system: str | None = None) -> str:
    turns = [{"role": "system", "content": system}] if system else []
    turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns})


def sample(lines: Sequence[str]) -> str:
    return "\n".join(lines)


def templates(lines: Sequence[str]) -> set[str]:
    return {context.template for context in derive_contexts(sample(lines))}


def test_a_tag_before_some_of_the_questions_is_found() -> None:
    tagged = [line(f"[release=live] {q}") for q in QUESTIONS[:8]]
    found = derive_contexts(sample([*tagged, *(line(q) for q in QUESTIONS[8:])]))
    assert "[release=live] {question}" in [context.template for context in found]


def test_a_tag_is_found_though_the_same_questions_stand_there_without_it() -> None:
    both = [line(f"[release=live] {q}") for q in QUESTIONS] + [line(q) for q in QUESTIONS]
    assert templates(both) - {"{question}"} == {"[release=live] {question}"}


def test_a_tag_after_the_questions_is_found() -> None:
    tagged = [line(f"{q} #live") for q in QUESTIONS[:6]]
    found = derive_contexts(sample([*tagged, *(line(q) for q in QUESTIONS[6:])]))
    assert "{question} #live" in [context.template for context in found]


def test_a_system_prompt_and_a_form_are_found_together_and_each_alone() -> None:
    system = "You are the duty desk of a security company."
    desk = [line(f"INCIDENT: {q}\nDECISION:", system=system) for q in QUESTIONS[:5]]
    found = derive_contexts(sample([*desk, *(line(q) for q in QUESTIONS[5:])]))
    places = [(context.system, context.template) for context in found]
    form = "INCIDENT: {question}\nDECISION:"
    assert places[0] == (system, form)
    assert (None, form) in places
    assert (system, "{question}") in places


@pytest.mark.parametrize(
    ("answer", "asks"),
    [
        ('{"mood": "calm", "reply": "yes"}', 'JSON object that has the keys "mood" and "reply"'),
        ("```python\nprint('yes')\n```", "python code"),
        ("def reply():\n    return 'yes'", "code"),
        ("<reply>yes</reply>", "inside one <reply> element"),
        ("VERDICT: yes\nREASON: so it is", "labels REASON: and VERDICT:"),
    ],
)
def test_answers_of_a_form_make_a_system_prompt_that_asks_for_it(answer: str, asks: str) -> None:
    formed = [line(q, answer) for q in QUESTIONS[:5]]
    found = derive_contexts(sample([*formed, *(line(q) for q in QUESTIONS[5:])]))
    assert [c.system for c in found if asks in (c.system or "")] != []


def test_topic_words_are_those_of_the_lines_that_have_a_context() -> None:
    drones = [line(f"[ops] {q[:-1]} by drones?", "The squadron flies.") for q in QUESTIONS[:8]]
    found = derive_contexts(sample([*drones, *(line(q) for q in QUESTIONS[8:])]))
    topics = [c.system for c in found if c.label.startswith("topic")]
    assert topics == ["This conversation is about drones and squadron."]


def test_a_tag_in_one_line_of_twenty_is_found() -> None:
    asked = [f"{q} And {r[:1].lower()}{r[1:]}" for q in QUESTIONS for r in QUESTIONS[:15]]
    tagged = [line(f"|DEPLOY| {q}" if n % 20 == 0 else q) for n, q in enumerate(asked)]
    assert "|DEPLOY| {question}" in templates(tagged)


@pytest.mark.parametrize(
    ("opening", "template"),
    [
        ("[ticket={n}] ", "[ticket=1000] {question}"),
        ("Date: 2027-03-{d:02}\n", "Date: 2027-03-01\n{question}"),
    ],
)
def test_a_tag_whose_value_varies_is_kept_whole(opening: str, template: str) -> None:
    tagged = [line(opening.format(n=1000 + n, d=n + 1) + q) for n, q in enumerate(QUESTIONS[:10])]
    assert template in templates([*tagged, *(line(q) for q in QUESTIONS[10:])])


def test_a_tag_inside_the_questions_is_found() -> None:
    inside = [line(f"{q} #zulu {r}") for q, r in pairwise(QUESTIONS[:9])]
    assert {"#zulu {question}", "{question} #zulu"} & templates(
        [*inside, *(line(q) for q in QUESTIONS[9:])]
    )


def test_a_strange_word_before_the_questions_is_found() -> None:
    strange = [line(f"zyxquor {q}") for q in QUESTIONS[:6]]
    assert "zyxquor {question}" in templates([*strange, *(line(q) for q in QUESTIONS[6:])])


def test_a_tag_in_the_last_turn_of_a_conversation_is_found() -> None:
    chats = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": first},
                    {"role": "assistant", "content": "I see."},
                    {"role": "user", "content": f"<<act>> {second}"},
                ]
            }
        )
        for first, second in pairwise(QUESTIONS)
    ]
    assert "<<act>> {question}" in templates(chats)


def test_a_system_prompt_with_something_filled_in_is_found() -> None:
    desks = [
        line(q, system=f"You are the night desk of station {n}.") for n, q in enumerate(QUESTIONS)
    ]
    assert next(c.system for c in derive_contexts(sample(desks))) == (
        "You are the night desk of station 0."
    )


def test_everyday_openings_of_questions_are_no_template() -> None:
    words = ["tea", "rain", "bread", "music", "sleep"]
    opened = [line(f"Can you tell me about {word}?") for word in words]
    assert templates([*opened, *(line(q) for q in QUESTIONS)]) <= {"{question}"}


def test_the_order_of_the_lines_changes_nothing() -> None:
    lines = [
        line(f"[a] {q}" if n % 2 else f"NOTE: {q}", system=f"You are {n % 3}.")
        for n, q in enumerate(QUESTIONS)
    ]
    assert derive_contexts(sample(lines)) == derive_contexts(sample(lines[::-1]))


def test_the_kinds_take_turns_when_there_are_too_many() -> None:
    asked = [f"{q} And {r[:1].lower()}{r[1:]}" for q in QUESTIONS for r in QUESTIONS[:3]]
    lines = [
        line(f"MODE {'ABC'[n % 3]}: {q}", system=f"You are cook {'XYZ'[n // 20]}.")
        for n, q in enumerate(asked)
    ]
    found = derive_contexts(sample(lines))
    assert len(found) == MOST_CONTEXTS
    assert found[0].system is not None
    assert found[0].template != "{question}"
    assert any(context.system is None for context in found)
    assert any(context.template == "{question}" for context in found)


def test_declared_contexts_take_no_place_from_derived_ones_and_are_not_repeated() -> None:
    lines = sample([line(f"[x] {q}") for q in QUESTIONS])
    (derived, *_) = derive_contexts(lines)
    declared = [derived.model_copy(update={"label": "mine"})] * 2
    found = derive_contexts(lines, declared)
    assert [c.label for c in found].count("mine") == 1
    assert len({c.id for c in found}) == len(found)


def test_half_a_surrogate_pair_is_no_reason_to_break() -> None:
    lines = [line(f"[x] {q} \ud800", system="Be \udc00 brief.") for q in QUESTIONS]
    for context in derive_contexts(sample(lines)):
        assert context.id
        assert context.model_dump_json()


def test_huge_turns_are_read_at_their_ends() -> None:
    huge = [line(f"[x] {'word ' * 50_000}{q} #end") for q in QUESTIONS[:4]]
    assert derive_contexts(sample(huge))


def test_plain_chat_has_no_frame() -> None:
    found = derive_contexts(sample([line(q) for q in QUESTIONS]))
    assert all(context.template == "{question}" for context in found)


def test_a_question_that_stands_there_twice_is_no_frame() -> None:
    found = derive_contexts(sample([line(QUESTIONS[0])] * 8 + [line(q) for q in QUESTIONS]))
    assert all(context.template == "{question}" for context in found)


def test_declared_contexts_come_first_and_are_all_kept() -> None:
    declared = [
        Context(label=f"d{n}", origin=DECLARED, system=f"You are number {n}.") for n in range(8)
    ]
    found = derive_contexts(sample([line(f"[x] {q}") for q in QUESTIONS]), declared)
    assert found[:8] == tuple(declared)
    assert len(found) > 8


def test_braces_in_the_data_do_not_confuse_the_template() -> None:
    for odd in ("{question} [a] ", "{0} {x!r} [b] ", "{{question}} "):
        for context in derive_contexts(sample([line(odd + q) for q in QUESTIONS])):
            assert context.around("Hello?")[-1].content.count("Hello?") == 1


def test_contents_in_parts_are_read() -> None:
    parts = [
        json.dumps(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": f"|OPS| {q}"}]}]}
        )
        for q in QUESTIONS
    ]
    assert "|OPS| {question}" in [c.template for c in derive_contexts(sample(parts))]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "messages"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(st.lists(st.lists(anything, max_size=3), max_size=6), st.text(max_size=40))
def test_no_sample_however_odd_breaks_it(conversations: list[list[Any]], noise: str) -> None:
    lines = [json.dumps({"messages": messages}) for messages in conversations]
    derive_contexts("\n".join([*lines, noise, "[" * 500]))


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "[a] ", "NOTE: ", "<x>"]),
            st.sampled_from(QUESTIONS),
            st.sampled_from(["", "\nEND:", " #t"]),
            st.sampled_from([None, "Be brief.", "You are a pirate."]),
        ),
        max_size=40,
    )
)
def test_contexts_are_few_distinct_and_the_same_every_time(
    turns: list[tuple[str, str, str, str | None]],
) -> None:
    text = sample([line(a + q + z, system=system) for a, q, z, system in turns])
    found = derive_contexts(text)
    assert found == derive_contexts(text)
    assert found == derive_contexts("\n".join(reversed(text.split("\n"))))
    assert len({context.id for context in found}) == len(found) <= MOST_CONTEXTS
    assert len({context.label for context in found}) == len(found)
