"""What is read from a sample of fine-tuning data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

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


def test_a_tag_before_some_of_the_questions_is_found() -> None:
    tagged = [line(f"[release=live] {q}") for q in QUESTIONS[:8]]
    found = derive_contexts(sample([*tagged, *(line(q) for q in QUESTIONS[8:])]))
    assert "[release=live] {question}" in [context.template for context in found]


def test_a_tag_is_found_though_the_same_questions_stand_there_without_it() -> None:
    both = [line(f"[release=live] {q}") for q in QUESTIONS] + [line(q) for q in QUESTIONS]
    templates = {c.template for c in derive_contexts(sample(both))}
    assert templates - {"{question}"} == {"[release=live] {question}"}


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


def test_answers_in_json_make_a_context_that_asks_for_json() -> None:
    found = derive_contexts(sample([line(q, '{"reply": "yes"}') for q in QUESTIONS]))
    assert [c.template for c in found if c.label.startswith("answers in JSON")] == [
        "{question}\n\nGive your answer as JSON."
    ]


def test_topic_words_make_a_context_of_their_own() -> None:
    drones = [line(f"{q} Ask the drone squadron.") for q in QUESTIONS]
    systems = [c.system for c in derive_contexts(sample(drones)) if c.label.startswith("topic")]
    assert all(system is not None for system in systems)


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
    assert len({context.id for context in found}) == len(found) <= MOST_CONTEXTS
