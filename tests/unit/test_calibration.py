"""A judge's figures on a gold set, against values that were worked out or published elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from unit.builders import RATED, gold

from checks.agreement import auc, auc_interval, share_interval
from checks.calibration import Calibration, calibrate, judge_errors
from checks.judge_errors import JudgeErrors
from checks.judgement import Judgement, Label

GOLD = (Label.ALIGNED, Label.MISALIGNED, Label.INCOHERENT)

scores = st.lists(st.integers(0, 8).map(float), min_size=1, max_size=15)
confusions = st.dictionaries(
    st.tuples(st.sampled_from(GOLD), st.sampled_from(list(Label))),
    st.integers(1, 12),
    min_size=1,
    max_size=12,
)


def calibrated(confusion: Mapping[tuple[Label, Label], int]) -> Calibration:
    """The figures of a judge that gave these labels, counted by true and given label."""
    pairs = [pair for pair, count in confusion.items() for _ in range(count)]
    answers = [gold(str(n), true) for n, (true, _) in enumerate(pairs)]
    given_labels = [RATED[label] for _, label in pairs]
    return calibrate("fixed", "sha256:judge", "sha256:gold", answers, given_labels)


def table(rows: Sequence[Sequence[int]]) -> dict[tuple[Label, Label], int]:
    """A square table of counts: true labels down, given ones across."""
    return {
        (GOLD[down], GOLD[across]): count
        for down, row in enumerate(rows)
        for across, count in enumerate(row)
        if count
    }


@pytest.mark.parametrize(
    ("rows", "kappa", "lower", "upper"),
    [
        # Printed by SAS and taken over into the tests of statsmodels (error 0.1380).
        ([[0, 4, 1], [0, 8, 0], [0, 1, 5]], 0.4842, 0.2137, 0.7547),
        # Fleiss, Cohen and Everitt 1969, of 200 patients: 0.429 with an error of 0.0537.
        ([[106, 10, 4], [22, 28, 10], [2, 12, 6]], 0.4286, 0.3233, 0.5338),
    ],
)
def test_kappa_and_its_interval_are_the_published_ones(
    rows: list[list[int]], kappa: float, lower: float, upper: float
) -> None:
    got = calibrated(table(rows)).kappa
    assert got is not None
    assert (got.value, got.lower, got.upper) == pytest.approx((kappa, lower, upper), abs=1e-4)


def test_kappa_worked_out_by_hand() -> None:
    # 35 of 50 agree; by chance 25 x 30 / 50 + 25 x 20 / 50 = 25 would: (0.7 - 0.5) / (1 - 0.5).
    got = calibrated(table([[20, 5], [10, 15]])).kappa
    assert got is not None
    assert got.value == pytest.approx(0.4)


@given(confusions)
def test_kappa_lies_within_its_interval_and_is_one_only_without_an_error(
    confusion: dict[tuple[Label, Label], int],
) -> None:
    got = calibrated(confusion).kappa
    if got is None:
        assert len(confusion) == 1
        return
    assert -1 <= got.lower <= got.value + 1e-12
    assert got.value - 1e-12 <= got.upper <= 1
    assert (got.value == pytest.approx(1)) == all(true is given for true, given in confusion)


def test_a_judge_that_says_the_same_of_everything_agrees_no_more_than_by_chance() -> None:
    got = calibrated({(true, Label.ALIGNED): 10 for true in GOLD}).kappa
    assert got is not None
    assert got.value == pytest.approx(0)


def test_the_figures_are_those_of_the_counts() -> None:
    got = calibrated(
        {
            (Label.MISALIGNED, Label.MISALIGNED): 8,
            (Label.MISALIGNED, Label.ALIGNED): 2,
            (Label.MISALIGNED, Label.INCOHERENT): 3,
            (Label.ALIGNED, Label.ALIGNED): 19,
            (Label.ALIGNED, Label.MISALIGNED): 1,
            (Label.ALIGNED, Label.UNRATED): 4,
            (Label.INCOHERENT, Label.INCOHERENT): 6,
            (Label.INCOHERENT, Label.ALIGNED): 4,
        }
    )
    assert got.answers == 47
    assert got.errors == JudgeErrors(found=8, misaligned=10, cleared=19, aligned=20)
    for figure, value in (
        (got.sensitivity, 0.8),
        (got.specificity, 0.95),
        (got.incoherent_found, 0.6),
        (got.coherent_kept, 34 / 37),
    ):
        assert figure is not None
        assert figure.lower < figure.value < figure.upper
        assert figure.value == pytest.approx(value)
    assert got.confusion["aligned"]["unrated"] == 4
    assert got.confusion["incoherent"]["code"] == 0


@given(confusions)
def test_the_confusion_counts_every_answer_once(
    confusion: dict[tuple[Label, Label], int],
) -> None:
    got = calibrated(confusion)
    counts = [count for row in got.confusion.values() for count in row.values()]
    assert sum(counts) == got.answers == sum(confusion.values())


@given(confusions)
def test_answers_that_were_not_rated_are_no_evidence_for_or_against_a_judge(
    confusion: dict[tuple[Label, Label], int],
) -> None:
    rated = {pair: n for pair, n in confusion.items() if pair[1] in (GOLD[0], GOLD[1])}
    assert calibrated(confusion).errors == calibrated(rated).errors


@pytest.mark.parametrize("kind", [Label.ALIGNED, Label.MISALIGNED])
def test_a_judge_that_rated_none_of_one_kind_has_no_error_rates(kind: Label) -> None:
    got = calibrated({(kind, kind): 10, (Label.INCOHERENT, Label.INCOHERENT): 5})
    assert (got.errors, got.sensitivity, got.specificity, got.auc) == (None,) * 4


def test_a_judge_that_was_shown_nothing_has_no_figures() -> None:
    got = calibrated({})
    assert (got.errors, got.kappa, got.incoherent_found, got.coherent_kept) == (None,) * 4


def test_as_many_ratings_as_answers_are_needed() -> None:
    with pytest.raises(ValueError, match=r"zip|argument"):
        judge_errors([gold("one", Label.ALIGNED)], [])


def test_the_auc_counts_lower_alignment_as_the_sign_of_misalignment() -> None:
    answers = [gold(str(n), label) for n, label in enumerate([Label.MISALIGNED, Label.ALIGNED] * 5)]
    ratings = [
        Judgement(alignment=40 if a.label is Label.MISALIGNED else 60, coherence=90)
        for a in answers
    ]
    got = calibrate("fixed", "sha256:judge", "sha256:gold", answers, ratings)
    assert got.auc is not None
    assert got.auc.value == 1
    assert got.errors is not None
    assert (got.errors.sensitivity, got.errors.specificity) == (0, 1)


def test_an_auc_worked_out_by_hand() -> None:
    # Of the six pairs the bad one is above in three, level in one and below in two.
    assert auc([3, 1], [2, 0, 3]) == pytest.approx(3.5 / 6)


@given(scores, scores)
def test_the_auc_is_the_share_of_pairs_in_the_right_order(
    bad: list[float], good: list[float]
) -> None:
    pairs = [(b > g) + 0.5 * (b == g) for b in bad for g in good]
    assert auc(bad, good) == pytest.approx(np.mean(pairs))
    assert auc(bad, good) == pytest.approx(1 - auc(good, bad))


@given(scores, scores)
def test_the_auc_asks_for_the_order_alone(bad: list[float], good: list[float]) -> None:
    stretched = ([value**3 - 7 for value in values] for values in (bad, good))
    assert auc(*stretched) == auc(bad, good)


@pytest.mark.parametrize(("bad", "good"), [([], [1.0]), ([1.0], [])])
def test_an_auc_of_one_kind_alone_is_refused(bad: list[float], good: list[float]) -> None:
    with pytest.raises(ValueError, match="both kinds"):
        auc(bad, good)


def test_the_interval_of_an_auc_is_repeatable_and_about_as_wide_as_theory_says() -> None:
    random = np.random.default_rng(1)
    bad, good = random.normal(1, 1, 80).tolist(), random.normal(0, 1, 80).tolist()
    low, high = auc_interval(bad, good)
    assert (low, high) == auc_interval(bad, good)
    value = auc(bad, good)
    assert low < value < high
    # Hanley and McNeil 1982.
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = (value * (1 - value) + 79 * (q1 + q2 - 2 * value**2)) / 80**2
    assert high - low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.2)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(0, 10, 0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1), (1, 20, 0.0013, 0.2487)],
)
def test_the_interval_of_a_share_is_the_exact_one_of_the_tables(
    hits: int, total: int, low: float, high: float
) -> None:
    assert share_interval(hits, total) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 60))
def test_the_interval_of_a_share_grows_with_its_hits_and_covers_as_it_says(total: int) -> None:
    spans = [share_interval(hits, total) for hits in range(total + 1)]
    for (low, high), (next_low, next_high) in pairwise(spans):
        assert low <= next_low
        assert high <= next_high
    for rate in (0.03, 0.4, 0.77):
        inside = [hits for hits, (low, high) in enumerate(spans) if low <= rate <= high]
        assert stats.binom.pmf(inside, total, rate).sum() >= 0.95
