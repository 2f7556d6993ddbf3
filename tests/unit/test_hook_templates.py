"""Templates of the hooks file: values of a payload are data."""

from __future__ import annotations

import pytest
from fakes.hooks import payload
from hypothesis import given
from hypothesis import strategies as st

from gate.hooks.template import (
    PayloadError,
    TemplateError,
    fill,
    fill_location,
    parse_path,
    parse_template,
    value_at,
)

PUSH = payload("gitlab_push")


def test_paths_lead_through_objects_and_lists() -> None:
    assert value_at(PUSH, parse_path("commits.0.author.name")) == "Maria Lopez"
    assert value_at(PUSH, parse_path("project.id")) == "15"
    assert value_at(PUSH, parse_path("ref_protected")) == "true"


@pytest.mark.parametrize(
    "path", ["gone", "project.gone", "commits.1.id", "commits.x", "ref.0", "project.id.x"]
)
def test_a_path_that_leads_nowhere_is_named(path: str) -> None:
    with pytest.raises(PayloadError, match=f"nothing at '{path}'"):
        value_at(PUSH, parse_path(path))


@pytest.mark.parametrize(("path", "what"), [("message", "nothing"), ("project", "no plain value")])
def test_null_and_objects_are_no_values(path: str, what: str) -> None:
    with pytest.raises(PayloadError, match=what):
        value_at(PUSH, parse_path(path))


@pytest.mark.parametrize(
    "text", ["{", "}", "a{b", "{}", "{a..b}", "{a b}", "{a[0]}", "{a|upper}", "{__class__.x()}"]
)
def test_what_is_no_template_is_refused_when_the_file_is_read(text: str) -> None:
    with pytest.raises(TemplateError):
        parse_template(text)


def test_doubled_braces_mean_themselves() -> None:
    assert fill("{{x}} {ref}", {"ref": "main"}) == "{x} main"


@given(st.text())
def test_a_value_is_never_read_as_a_template(value: str) -> None:
    assert fill("<{v}>", {"v": value, "ref": "secret"}) == f"<{value}>"


def test_a_location_of_plain_segments_is_filled() -> None:
    hub = payload("huggingface_content")
    assert fill_location("hf://{repo.name}@{repo.headSha}", hub) == (
        f"hf://acme/support-model@{hub['repo']['headSha']}"
    )


@pytest.mark.parametrize(
    "value",
    ["../other", "a/../b", "a/./b", ".hidden", "/etc", "a//b", "a/", "x@y", "hf://x", "a\0", "a b",
     "a\n", "ä", "", "-rf", "a?b", "a#b", "a%2e"],
)  # fmt: skip
def test_a_value_inside_a_location_cannot_lead_elsewhere(value: str) -> None:
    with pytest.raises(PayloadError, match="cannot stand inside a location"):
        fill_location("/checkpoints/{v}", {"v": value})


def test_a_location_that_is_a_value_alone_is_left_to_intake() -> None:
    assert fill_location("{v}", {"v": "/checkpoints/run-1"}) == "/checkpoints/run-1"


@given(st.text(alphabet="ab./\\@:%", max_size=12))
def test_a_filled_location_stays_under_its_literal_start(value: str) -> None:
    try:
        filled = fill_location("/root/{v}", {"v": value})
    except PayloadError:
        return
    assert filled.startswith("/root/")
    assert ".." not in filled.split("/")


def test_a_value_of_any_length_is_not_taken() -> None:
    with pytest.raises(PayloadError, match="longer than"):
        fill("{v}", {"v": "x" * 1_000_001})
