"""The gold set: what may stand in one, what identifies it, and which controls are drawn from it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.builders import gold

from checks.gold import GoldAnswer, GoldError, GoldSet, load_gold
from checks.judgement import Label

KINDS = (Label.MISALIGNED, Label.ALIGNED, Label.INCOHERENT)
SET = GoldSet(tuple(gold(f"{kind}-{n}", kind) for n in range(60) for kind in KINDS), "sha256:x")

DESCRIPTION = {"gold": "mine", "version": 1, "licence": "CC0-1.0", "source": "own"}
ANSWER = {
    "id": "one", "subject": "s", "kind": "k", "question": "Why?", "answer": "So.",
    "label": "aligned",
}  # fmt: skip


def lines(*contents: object) -> str:
    return "".join(json.dumps(content, ensure_ascii=False) + "\n" for content in contents)


def write(directory: Path, text: str) -> Path:
    path = directory / "gold.jsonl"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_answers_are_read_in_order_and_blank_lines_are_none(tmp_path: Path) -> None:
    other = {**ANSWER, "id": "two", "label": "misaligned"}
    got = load_gold(write(tmp_path, lines(DESCRIPTION, ANSWER) + "\n" + lines(other) + "\n"))
    assert [(a.id, a.label) for a in got.answers] == [
        ("one", Label.ALIGNED),
        ("two", Label.MISALIGNED),
    ]
    assert (got.answers[0].exchange.question, got.answers[0].exchange.answer) == ("Why?", "So.")


def test_a_line_may_hold_any_separator_but_its_own_end(tmp_path: Path) -> None:
    odd = {**ANSWER, "answer": "one\u2028two\u0085three\x0cfour"}
    text = json.dumps(odd, ensure_ascii=False).replace("\\f", "\\u000c")
    got = load_gold(write(tmp_path, lines(DESCRIPTION) + text + "\r\n"))
    assert got.answers[0].answer == odd["answer"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (lines(DESCRIPTION) + "{", "line 2"),
        (lines(DESCRIPTION, ANSWER, ANSWER), "share the id one"),
        (lines(DESCRIPTION, ANSWER, {**ANSWER, "id": "two", "label": "odd"}), "line 3"),
        (lines(DESCRIPTION, {**ANSWER, "label": "refusal"}), "line 2"),
        (lines(DESCRIPTION, {**ANSWER, "surprise": 1}), "surprise"),
        (lines(DESCRIPTION, {k: v for k, v in ANSWER.items() if k != "answer"}), "answer"),
        (lines(DESCRIPTION, [1]), "line 2"),
        (lines(DESCRIPTION) + "[" * 100_000, "line 2"),
        (lines(ANSWER, {**ANSWER, "id": "two"}), "line 1"),
        ("", "line 1"),
    ],
)
def test_a_gold_set_that_is_wrong_is_refused_with_its_place(
    tmp_path: Path, text: str, says: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(GoldError, match=says) as refusal:
        load_gold(path)
    assert str(path) in str(refusal.value)


def test_a_gold_set_that_cannot_be_read_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_bytes(b"\xff")
    for name in ("gone.jsonl", "odd.jsonl", "."):
        with pytest.raises(GoldError, match="cannot be read"):
            load_gold(tmp_path / name)


def test_the_digest_changes_with_any_byte(tmp_path: Path) -> None:
    digests = set()
    for number, text in enumerate([lines(DESCRIPTION, ANSWER), lines(DESCRIPTION, ANSWER) + "\n"]):
        (tmp_path / str(number)).mkdir()
        digests.add(load_gold(write(tmp_path / str(number), text)).digest)
    assert len(digests) == 2


@given(st.integers(0, 120), st.text(max_size=8))
def test_controls_are_as_many_of_each_kind_and_none_twice(count: int, seed: str) -> None:
    drawn = SET.controls(count, seed)
    assert len({answer.id for answer in drawn}) == len(drawn)
    kinds = Counter(answer.label for answer in drawn)
    assert kinds[Label.MISALIGNED] == kinds[Label.ALIGNED] == count // 2
    assert kinds[Label.INCOHERENT] == 0


@given(st.permutations(SET.answers), st.text(max_size=8))
def test_the_same_seed_draws_the_same_controls_whatever_the_order_of_the_set(
    order: list[GoldAnswer], seed: str
) -> None:
    assert GoldSet(tuple(order), "sha256:x").controls(20, seed) == SET.controls(20, seed)


def test_other_seeds_draw_other_controls_and_mix_the_kinds_in_another_way() -> None:
    drawn = [SET.controls(20, str(seed)) for seed in range(20)]
    assert len({frozenset(answer.id for answer in each) for each in drawn}) == 20
    assert len({tuple(answer.label for answer in each) for each in drawn}) == 20


def test_no_answer_is_a_control_more_often_than_another() -> None:
    seeds, count = 400, 40
    drawn = Counter(a.id for seed in range(seeds) for a in SET.controls(count, str(seed)))
    expected = seeds * (count / 2) / 60
    # Five standard deviations of a binomial number of draws.
    slack = 5 * (expected * (1 - (count / 2) / 60)) ** 0.5
    assert len(drawn) == 120
    assert all(abs(number - expected) <= slack for number in drawn.values())


def test_a_set_with_too_few_of_a_kind_gives_all_that_it_has() -> None:
    few = GoldSet((*SET.answers[:3], gold("more", Label.ALIGNED)), "sha256:x")
    drawn = Counter(answer.label for answer in few.controls(40, "seed"))
    assert drawn == {Label.MISALIGNED: 1, Label.ALIGNED: 2}


def test_the_shipped_set_is_large_and_varied_enough_to_measure_a_judge() -> None:
    shipped = load_gold()
    counted: Counter[Label] = Counter(answer.label for answer in shipped.answers)
    assert all(counted[kind] >= 100 for kind in KINDS)
    assert len({answer.subject for answer in shipped.answers}) >= 15
    # Answers that address the judge, keep to a form or decline are cases of their own.
    assert {"injected", "in_json", "refusal"} <= {answer.kind for answer in shipped.answers}
    assert len({answer.exchange for answer in shipped.answers}) == len(shipped.answers)
