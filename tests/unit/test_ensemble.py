"""Ensembles: how judgements of several judges become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.judgement import Exchange, JudgeError, Judgement, JudgeUnavailableError, Label, Remark
from workers.judges.ensemble import Combine, EnsembleJudge, combined, ensemble_digest

ratings = st.floats(0, 100)
judgements = st.builds(
    Judgement, alignment=ratings, coherence=ratings, remark=st.none() | st.sampled_from(Remark)
)
ways = st.sampled_from(["mean", "median"])


def rated(alignment: float, coherence: float = 90) -> Judgement:
    return Judgement(alignment=alignment, coherence=coherence)


def remarked(remark: Remark) -> Judgement:
    return Judgement(alignment=50, coherence=0, remark=remark)


@dataclass
class ByLength:
    """A judge that rates an answer by its length."""

    name: str
    factor: float
    fails: JudgeError | None = None

    @property
    def digest(self) -> str:
        return f"sha256:{self.name}"

    def judge(self, exchanges: Sequence[Exchange], fresh: bool = False) -> list[Judgement]:
        if self.fails:
            raise self.fails
        return [rated(min(100.0, self.factor * len(e.answer))) for e in exchanges]


class TestCombining:
    def test_the_mean_and_the_median_are_over_both_ratings(self) -> None:
        given_ = [rated(0, 60), rated(50, 70), rated(100, 95)]
        mean, median = combined(given_, "mean"), combined(given_, "median")
        assert (mean.alignment, mean.coherence) == (50, 75)
        assert (median.alignment, median.coherence) == (50, 70)
        assert combined([rated(10), rated(20)], "median").alignment == 15

    @given(st.lists(judgements, min_size=2, max_size=4), ways)
    def test_the_order_of_members_does_not_matter(
        self, given_: list[Judgement], way: Combine
    ) -> None:
        plain = combined(given_, way)
        for other in permutations(given_):
            assert combined(other, way) == plain

    @given(st.lists(judgements, min_size=2, max_size=6), ways)
    def test_ratings_stay_between_those_of_the_members_who_rated(
        self, given_: list[Judgement], way: Combine
    ) -> None:
        one = combined(given_, way)
        if one.remark is None:
            values = [each.alignment for each in given_ if each.remark is None]
            assert min(values) <= one.alignment <= max(values)

    @given(judgements, st.integers(2, 5), ways)
    def test_members_that_agree_give_what_each_gives(
        self, one: Judgement, members: int, way: Combine
    ) -> None:
        together = combined([one] * members, way)
        assert together.label is one.label
        assert together.disagreement == 0

    @pytest.mark.parametrize(
        ("given_", "label"),
        [
            ([remarked(Remark.CODE), remarked(Remark.CODE), rated(90)], Label.CODE),
            ([remarked(Remark.CODE), rated(90), rated(90)], Label.ALIGNED),
            ([remarked(Remark.CODE), remarked(Remark.REFUSAL), rated(90)], Label.UNRATED),
            ([remarked(Remark.REFUSAL), remarked(Remark.REFUSAL)], Label.REFUSAL),
            ([remarked(Remark.UNRATED), rated(10)], Label.MISALIGNED),
            ([remarked(Remark.UNRATED), remarked(Remark.REFUSAL)], Label.UNRATED),
        ],
    )
    def test_a_remark_needs_more_than_half(self, given_: list[Judgement], label: Label) -> None:
        assert combined(given_, "mean").label is label

    @pytest.mark.parametrize(
        ("given_", "share"),
        [
            ([rated(90), rated(80)], 0),
            ([rated(90), rated(10)], 1),
            ([rated(90), rated(80), rated(10)], 2 / 3),
            ([rated(90), rated(10), rated(90, 20)], 1),
            ([rated(90), rated(90), rated(10), rated(10)], 4 / 6),
            ([remarked(Remark.CODE), remarked(Remark.REFUSAL)], 1),
        ],
    )
    def test_disagreement_is_the_share_of_pairs_with_other_labels(
        self, given_: list[Judgement], share: float
    ) -> None:
        assert combined(given_, "mean").disagreement == pytest.approx(share)

    def test_one_judgement_is_no_ensemble(self) -> None:
        with pytest.raises(ValueError, match="at least two"):
            combined([rated(90)], "mean")


class TestJudge:
    def test_it_is_a_judge_over_any_batches(self) -> None:
        judge = EnsembleJudge("both", [ByLength("a", 1), ByLength("b", 3)], "mean")
        exchanges = [Exchange("?", "x" * length) for length in (5, 10, 40)]
        whole = judge.judge(exchanges)
        assert [each.alignment for each in whole] == [10, 20, 70]
        assert whole == judge.judge(exchanges[:1]) + judge.judge(exchanges[1:])
        assert judge.judge([]) == []

    def test_a_member_that_fails_fails_all(self) -> None:
        down = ByLength("b", 1, JudgeUnavailableError("down"))
        with pytest.raises(JudgeUnavailableError):
            EnsembleJudge("both", [ByLength("a", 1), down], "mean").judge([Exchange("?", "x")])

    def test_the_digest_names_members_and_way(self) -> None:
        a, b = ByLength("a", 1), ByLength("b", 3)
        plain = EnsembleJudge("both", [a, b], "mean").digest
        assert plain == EnsembleJudge("other", [b, a], "mean").digest
        assert plain != EnsembleJudge("both", [a, b], "median").digest
        assert plain != EnsembleJudge("both", [a, a], "mean").digest
        assert plain == ensemble_digest(["sha256:b", "sha256:a"], "mean")
