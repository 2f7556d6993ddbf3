"""YAML from strangers: what is read, and what is refused before it can do harm."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from checks.bounded_yaml import (
    MOST_BYTES,
    MOST_LEVELS,
    UnreadableYamlError,
    read_yaml,
    read_yaml_file,
)
from checks.plain_yaml import to_yaml

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
#: Both loaders build the same plain values, but read odd tags such as a bare "!" differently.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_what_is_written_reads_back_as_the_same(content: object) -> None:
    assert read_yaml(to_yaml(content)) == content


def test_several_lines_are_written_as_a_block_and_the_order_is_kept() -> None:
    written = to_yaml({"z": "one\ntwo\n", "a": 1})
    assert written == "z: |\n  one\n  two\na: 1\n"


def test_aliases_and_merges_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, x: 3}\n"
    same = {"x": 1, "y": 2}
    assert read_yaml(text) == {"a": same, "b": same, "c": {"x": 3, "y": 2}}


def bomb(doublings: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, doublings)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (bomb(40), "more than 250,000 values"),
        ("a: &a [*a]", "alias stands inside its own anchor"),
        ("[" * (MOST_LEVELS + 1) + "]" * (MOST_LEVELS + 1), "line 1: nested deeper than 50 levels"),
        ("[" * 1_000_000, "nested deeper"),
        ("a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 99)), "nested"),
        ("- " + "x" * MOST_BYTES, "larger than 5 MB"),
        ("a: 1\nb: 2\na: 3", "line 3: 'a' is given twice"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: 1\n b: 2", "line 2"),
        ("--- a\n--- b", "another document"),
        ("a: 2001-99-99", "month must be"),
        ("x: \x00", "control characters"),
        ("\ud800", "surrogates not allowed"),
        ("- " + "1" * 5000, "integer string conversion"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(text: str, says: str) -> None:
    with pytest.raises(UnreadableYamlError, match=says):
        read_yaml(text)


def test_the_most_that_is_allowed_is_read_and_one_more_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_yaml("[" * MOST_LEVELS + "]" * MOST_LEVELS) is not None
    monkeypatch.setattr("checks.bounded_yaml.MOST_NODES", 1000)
    assert read_yaml("- x\n" * 999) == ["x"] * 999
    for too_many in (1000, 10_000):
        with pytest.raises(UnreadableYamlError, match="values, aliases written out"):
            read_yaml("- x\n" * too_many)


@given(st.binary(max_size=60) | st.text("-:[]{}&*!|>?%@` \nax1'\"", max_size=40))
def test_any_bytes_are_read_or_refused(content: bytes | str) -> None:
    text = content if isinstance(content, str) else content.decode("utf-8", "surrogateescape")
    try:
        read = read_yaml(text)
    except UnreadableYamlError:
        return
    assert read == yaml.load(text, Loader=LOADER)


def test_files_are_bounded_and_in_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: ü", encoding="utf-8")
    assert read_yaml_file(file) == {"a": "ü"}
    file.write_bytes(b"a: \xff")
    with pytest.raises(UnreadableYamlError, match="not UTF-8 at byte 3"):
        read_yaml_file(file)
    file.write_bytes(b"a: " + b"x" * MOST_BYTES)
    with pytest.raises(UnreadableYamlError, match="larger than 5 MB"):
        read_yaml_file(file)
