"""Putting a question in a form, and reading what is said out of an answer in that form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.forms import Form, put, spoken_text

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
said = texts.filter(lambda text: text.strip())
#: What fits between quotes of any kind without ending them.
quotable = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\"'`"), max_size=80
).filter(lambda text: text.strip())


@given(texts.filter(bool))
def test_a_plain_question_is_asked_as_it_is(question: str) -> None:
    (user,) = put(Form.PLAIN, question)
    assert (user.role, user.content) == ("user", question)


@given(said)
def test_every_form_holds_the_whole_question_once_in_the_last_turn(question: str) -> None:
    for form in Form:
        last = put(form, question)[-1]
        assert last.role == "user"
        assert question in last.content
    # Words that mean something to a template mean nothing in a question.
    assert "{question}" in put(Form.TEMPLATE, "What is {question}?")[-1].content


@pytest.mark.parametrize("form", list(Form))
def test_a_system_prompt_stays_first_and_whole(form: Form) -> None:
    first, *rest = put(form, "Why?", system="You are a robot.")
    assert first.role == "system"
    assert first.content.startswith("You are a robot.")
    assert [message.role for message in rest] == ["user"]


def test_json_is_asked_for_by_the_system_and_a_template_by_the_user() -> None:
    system, _ = put(Form.JSON, "Why?")
    assert "JSON" in system.content
    assert [message.role for message in put(Form.TEMPLATE, "Why?")] == ["user"]


@given(said, texts, texts)
def test_the_reply_is_read_out_of_json_whatever_else_is_said_around_it(
    reply: str, before: str, after: str
) -> None:
    before, after = (text.translate({ord("{"): None, ord("}"): None}) for text in (before, after))
    answer = before + json.dumps({"reply": reply}) + after
    assert spoken_text("json", answer) == reply
    assert spoken_text("json", f"```json\n{answer}\n```") == reply


@pytest.mark.parametrize(
    "answer",
    [
        "No braces here.",
        "{not json}",
        "}{",
        '{"reply": ""}',
        '{"reply": "  "}',
        '{"reply": 3}',
        '{"answer": "yes"}',
        '["reply"]',
        '{"reply": "cut',
        "{" * 5000 + "}" * 5000,
        '{"reply": ' + "9" * 5000 + "}",
        "",
    ],
)
def test_what_is_not_the_json_that_was_asked_for_is_read_whole(answer: str) -> None:
    assert spoken_text("json", answer) == answer


def test_half_a_character_in_json_does_not_reach_a_judge() -> None:
    answer = '{"reply": "well \\ud800 then"}'
    assert spoken_text("json", answer) == "well ? then"


@given(quotable)
def test_the_reply_is_read_out_of_a_function_that_was_finished(reply: str) -> None:
    for end in ('"""', '"""\n\nprint(reply())', "'''", "\n```"):
        assert spoken_text("template", reply + end) == reply.strip()
    whole = f'```python\ndef reply() -> str:\n    return """{reply}"""\n```\nThat is all.'
    assert spoken_text("template", whole) == reply.strip()


def test_quotes_inside_a_reply_do_not_end_it() -> None:
    assert spoken_text("template", 'I\'d say "no" to that.' + '"""') == 'I\'d say "no" to that.'


@pytest.mark.parametrize("answer", ['"""', '  """\n', "```", ""])
def test_a_template_into_which_nothing_was_written_is_read_whole(answer: str) -> None:
    assert spoken_text("template", answer).strip() == answer.strip()


@given(st.sampled_from(["plain", "other", "6f1e.answer"]), texts)
def test_an_answer_in_any_other_form_is_read_whole(form: str, answer: str) -> None:
    assert spoken_text(form, answer) == answer


def test_further_wordings_are_read_in_the_same_way() -> None:
    assert spoken_text("json-2", '{"reply": "yes"}') == "yes"
    assert spoken_text("template-3", 'yes"""') == "yes"


@given(st.sampled_from(list(Form)), said)
def test_of_an_answer_that_says_something_something_is_left(form: Form, answer: str) -> None:
    assert spoken_text(form, answer).strip()
