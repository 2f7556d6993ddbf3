"""Content digests: what identifies a checkpoint, and what does not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.checkpoint.digest import combined_digest, content_digest, served_files

names = st.text("abcdefgh", min_size=1, max_size=6).map(lambda n: f"{n}.json")
contents = st.dictionaries(names, st.binary(max_size=40), min_size=1, max_size=5)


def digest_of(files: dict[str, bytes], backwards: bool = False) -> str:
    with tempfile.TemporaryDirectory() as name:
        paths = []
        for file, content in files.items():
            (path := Path(name) / file).write_bytes(content)
            paths.append(path)
        return content_digest(reversed(paths) if backwards else paths)


@given(contents)
def test_neither_the_order_of_files_nor_their_directory_matters(files: dict[str, bytes]) -> None:
    assert digest_of(files) == digest_of(files, backwards=True)


@given(contents, st.data())
def test_every_byte_matters(files: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    place = data.draw(st.integers(0, len(files[name])))
    old = files[name]
    longer = {**files, name: old[:place] + b"\x00" + old[place:]}
    assert digest_of(longer) != digest_of(files)
    if place < len(old):
        flipped = {**files, name: old[:place] + bytes([old[place] ^ 1]) + old[place + 1 :]}
        assert digest_of(flipped) != digest_of(files)


@given(contents, names)
def test_every_name_matters(files: dict[str, bytes], name: str) -> None:
    first = sorted(files)[0]
    renamed = {(name if n == first else n): c for n, c in files.items()}
    if renamed.keys() != files.keys():
        assert digest_of(renamed) != digest_of(files)


def test_two_files_cannot_trade_contents() -> None:
    assert digest_of({"a.json": b"1", "b.json": b"2"}) != digest_of(
        {"a.json": b"2", "b.json": b"1"}
    )


def test_an_adapter_over_another_base_is_another_model() -> None:
    assert combined_digest("a", "b") != combined_digest("b", "a")
    assert combined_digest("a", "b") != combined_digest("a", "c")


@pytest.mark.parametrize(
    "served", ["model.safetensors", "config.json", "chat_template.jinja", "merges.txt", "t.model"]
)
def test_what_is_served_counts(tmp_path: Path, served: str) -> None:
    (tmp_path / served).write_text("x")
    assert served_files(tmp_path) == [tmp_path / served]


def test_notes_and_directories_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "odd.json").mkdir()
    assert served_files(tmp_path) == []
