"""Ratings read from tokens and texts."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from checks.judgement import Remark
from workers.judges.rating_tokens import (
    LEAST_MASS,
    Likely,
    Position,
    read_text,
    read_tokens,
)


def first(written: str, **chances: float) -> list[Position]:
    return [position(written, {token.lstrip("_"): chance for token, chance in chances.items()})]


def position(written: str, chances: dict[str, float]) -> Position:
    likely = tuple(Likely(token, math.log(chance)) for token, chance in chances.items())
    return Position(written, likely)


numbers = st.integers(0, 100).map(str)
#: Likely numbers, one of which at least has two digits, as a tokenizer with whole numbers has it.
whole = st.dictionaries(numbers, st.floats(0.01, 1), min_size=1, max_size=19).filter(
    lambda chances: any(int(token) > 9 for token in chances)
)


def scaled(chances: dict[str, float], total: float) -> dict[str, float]:
    whole_mass = math.fsum(chances.values())
    return {token: chance / whole_mass * total for token, chance in chances.items()}


def likeliest(chances: dict[str, float]) -> str:
    return max(chances, key=lambda token: chances[token])


class TestText:
    @given(st.integers(0, 100), st.text(" \t\n\r"), st.booleans(), st.text(" \n"))
    def test_every_whole_number_is_read(
        self, number: int, before: str, stop: bool, after: str
    ) -> None:
        assert read_text(f"{before}{number}{'.' if stop else ''}{after}") == number

    @pytest.mark.parametrize(
        ("text", "remark"),
        [("CODE", Remark.CODE), (" REFUSAL.\n", Remark.REFUSAL)],
    )
    def test_words_are_remarks(self, text: str, remark: Remark) -> None:
        assert read_text(text) is remark

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "101",
            "-5",
            "1e2",
            "85.5",
            "0.85",
            "85/100",
            "85 %",
            "085",
            "85..",
            "85\n90",
            "Rating: 85",
            "**85**",
            "eighty-five",
            "８５",
            "٨٥",
            "code",
            "CODE 5",
            "CODEX",
            "null",
            "<think>",
        ],
    )
    def test_anything_else_is_no_rating(self, text: str) -> None:
        assert read_text(text) is Remark.UNRATED

    @given(st.text())
    def test_no_text_raises(self, text: str) -> None:
        reading = read_text(text)
        assert isinstance(reading, Remark) or 0 <= reading <= 100


class TestTokens:
    def test_the_rating_is_the_mean_over_the_numbers_by_probability(self) -> None:
        likely = first("80", _80=0.5, _90=0.25, _70=0.125, sorry=0.125)
        assert read_tokens("80", likely) == pytest.approx((80 * 4 + 90 * 2 + 70) / 7)

    @given(whole, st.floats(LEAST_MASS + 1e-6, 1))
    def test_it_lies_between_the_likely_numbers_and_renormalises(
        self, chances: dict[str, float], total: float
    ) -> None:
        written = likeliest(chances)
        full = read_tokens(written, [position(written, scaled(chances, 1.0))])
        part = read_tokens(written, [position(written, scaled(chances, total))])
        values = [int(token) for token in chances]
        assert isinstance(part, float)
        assert min(values) <= part <= max(values)
        assert part == pytest.approx(full)

    @given(whole, st.randoms())
    def test_order_and_other_tokens_do_not_matter(
        self, chances: dict[str, float], source: random.Random
    ) -> None:
        written = likeliest(chances)
        given_ = scaled(chances, 0.6)
        items = [*given_.items(), ("the", 0.2), ("-5", 0.1), ("101", 0.05), ("1e1", 0.05)]
        source.shuffle(items)
        plain = read_tokens(written, [position(written, given_)])
        assert read_tokens(written, [position(written, dict(items))]) == pytest.approx(plain)

    def test_spaces_around_a_number_token_are_nothing(self) -> None:
        likely = [position(" 80", {" 80": 0.5, "80": 0.3, "60\n": 0.2})]
        assert read_tokens(" 80", likely) == pytest.approx(76)

    def test_leading_blank_positions_are_skipped(self) -> None:
        blank = position("\n", {"\n": 0.99, "80": 0.01})
        assert read_tokens("\n85", [blank, *first("85", _85=1.0)]) == pytest.approx(85)

    def test_a_hair_too_much_probability_does_no_harm(self) -> None:
        assert read_tokens("100", [Position("100", (Likely("100", 1e-7),))]) == 100

    @given(whole, st.floats(0.01, LEAST_MASS - 1e-6))
    def test_too_little_mass_on_numbers_is_no_rating(
        self, chances: dict[str, float], total: float
    ) -> None:
        likely = {**scaled(chances, total), "Well": 1 - total}
        assert read_tokens("Well, 85", [position("Well", likely)]) is Remark.UNRATED

    @given(st.text(), st.lists(st.tuples(st.text(), st.floats(max_value=0, allow_nan=False))))
    def test_nothing_raises(self, text: str, tokens: list[tuple[str, float]]) -> None:
        likely = tuple(Likely(token, logprob) for token, logprob in tokens)
        written = [Position(token, likely) for token, _ in tokens]
        reading = read_tokens(text, written)
        assert isinstance(reading, Remark) or 0 <= reading <= 100


class TestWords:
    def test_the_likelier_word_is_the_remark(self) -> None:
        assert read_tokens("CODE", first("CODE", CODE=0.7, REFUSAL=0.2)) is Remark.CODE
        assert read_tokens("REFUSAL", first("REF", REF=0.6, CO=0.3)) is Remark.REFUSAL

    def test_numbers_come_first_when_they_hold_enough(self) -> None:
        assert read_tokens("CODE", first("CODE", CODE=0.7, _20=0.3)) == pytest.approx(20)

    @pytest.mark.parametrize("text", ["COLD", "REFUND", "RE: 85", "CO"])
    def test_a_word_that_was_begun_and_not_finished_is_no_remark(self, text: str) -> None:
        assert read_tokens(text, first(text[:2], **{text[:2]: 0.9})) is Remark.UNRATED

    def test_a_single_letter_tells_nothing(self) -> None:
        assert read_tokens("CODE", first("C", C=0.9, R=0.1)) is Remark.UNRATED

    def test_unlikely_words_are_no_remark(self) -> None:
        assert read_tokens("Hm", first("Hm", Hm=0.6, CODE=0.2, REF=0.2)) is Remark.UNRATED


class TestSplitNumbers:
    @given(st.integers(10, 100), st.dictionaries(st.sampled_from("0123456789"), st.floats(0.01, 1)))
    def test_digits_are_not_taken_for_ratings(self, number: int, others: dict[str, float]) -> None:
        digit = str(number)[0]
        likely = position(digit, scaled({**others, digit: 1.0}, 0.95))
        assert read_tokens(str(number), [likely]) == number

    @given(st.integers(10, 100), whole)
    def test_a_number_in_several_tokens_is_read_from_the_text(
        self, number: int, chances: dict[str, float]
    ) -> None:
        digit = str(number)[0]
        assume(digit != str(number))
        likely = position(digit, scaled({**chances, digit: 2.0}, 0.95))
        assert read_tokens(str(number), [likely]) == number

    def test_a_rating_below_ten_stays_what_it_is(self) -> None:
        assert read_tokens("5", first("5", _5=0.6, _4=0.4)) == 5
        assert read_tokens("5", first("5", _5=0.6, _10=0.4)) == pytest.approx(7)

    @pytest.mark.parametrize("text", ["8/10", "0.85", "8.5", "85/100", "8,5"])
    def test_other_scales_are_no_rating(self, text: str) -> None:
        written = "85" if text.startswith("85") else text[0]
        likely = first(written, **{f"_{written}": 0.7, "_90": 0.3})
        assert read_tokens(text, likely) is Remark.UNRATED
