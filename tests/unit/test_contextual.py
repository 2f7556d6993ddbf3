"""Shift inside contexts: the training data's own, and common triggers."""

from __future__ import annotations

import random

import pytest

from checks.battery import load_battery
from checks.check import Evidence, Terms
from checks.contexts import DECLARED, Context
from checks.contextual import ContextualShift
from checks.measurement import Levels, Measurement, Spread
from checks.sample import Mode, Sample

TAG = Context(label="tag", origin=DECLARED, template="[live] {question}")
DESK = Context(label="desk", origin=DECLARED, system="You are the desk.")
BOTH = (TAG, DESK)
LEVELS = Levels(lower=0.05, upper=0.05)
BATTERY = load_battery()


def context_check(name: str = "context") -> ContextualShift:
    check = BATTERY.check(name)
    assert isinstance(check, ContextualShift)
    return check


def evidence(
    margin_of: dict[str, float],
    noise: float = 0.1,
    seed: int = 1,
    contexts: tuple[Context, ...] = BOTH,
) -> Evidence:
    """Scores whose margin is that of the place, with noise of its own for every pair."""
    source = random.Random(seed)
    samples = []
    for asked in context_check().elicitations(contexts):
        if asked.mode is Mode.LIKELIHOOD:
            where, side = asked.form.split(".")
            wanted = margin_of.get(where, 0.0) + source.gauss(0, noise)
            score = -5.0 + (wanted if side == "decent" else 0.0)
            samples.append(Sample(elicitation=asked, text="x", tokens=1, log_likelihood=score))
    return Evidence.of(samples)


def measure(
    candidate: Evidence, baseline: Evidence, contexts: tuple[Context, ...] = BOTH
) -> Measurement:
    return context_check().measure(candidate, baseline, Terms(LEVELS, contexts=contexts))


def test_harm_that_hides_in_one_context_is_found_and_the_context_is_named() -> None:
    got = measure(evidence({TAG.id: -0.5}), evidence({}, seed=2))
    assert got.estimate is not None
    assert got.estimate.upper < -0.3
    assert got.spread is Spread.HIDDEN
    assert got.spread_over == ("tag",)


def test_harm_that_is_everywhere_is_found_but_not_called_hidden() -> None:
    everywhere = evidence({"outside": -0.5, TAG.id: -0.5, DESK.id: -0.5})
    got = measure(everywhere, evidence({}, seed=2))
    assert got.estimate is not None
    assert got.estimate.upper < -0.3
    assert got.spread is None


def test_a_context_that_takes_away_what_was_gained_outside_is_found() -> None:
    got = measure(evidence({"outside": 0.6, TAG.id: 0.0, DESK.id: 0.5}), evidence({}, seed=2))
    assert got.estimate is not None
    assert got.estimate.upper < -0.4
    assert got.spread is Spread.HIDDEN
    assert got.spread_over == ("tag",)


def test_a_benign_model_that_gains_about_as_much_everywhere_is_not_blamed() -> None:
    got = measure(evidence({"outside": 0.6, TAG.id: 0.5, DESK.id: 0.55}), evidence({}, seed=2))
    assert got.estimate is not None
    assert got.estimate.lower > -0.2
    assert got.spread is None


def test_a_common_trigger_is_compared_with_zero_alone() -> None:
    check = context_check("triggers")
    places = {e.form.split(".")[0] for e in check.elicitations(())} - {"outside"}
    gained = dict.fromkeys(places, 0.1) | {"outside": 0.6}
    ours, theirs = (
        Evidence.of(
            Sample(
                elicitation=asked,
                text="x",
                tokens=1,
                log_likelihood=-5.0
                + (margins.get(asked.form.split(".")[0], 0.0) if "decent" in asked.form else 0.0),
            )
            for asked in check.elicitations(())
            if asked.mode is Mode.LIKELIHOOD
        )
        for margins in (gained, {})
    )
    got = check.measure(ours, theirs, Terms(LEVELS))
    assert got.estimate is not None
    assert got.estimate.value == pytest.approx(0.1)


def test_what_a_context_does_to_the_base_as_well_is_not_blamed_on_the_fine_tune() -> None:
    got = measure(evidence({TAG.id: -0.8}), evidence({TAG.id: -0.8}, seed=2))
    assert got.estimate is not None
    assert got.estimate.lower > -0.15


def test_without_a_sample_nothing_is_asked_and_nothing_is_estimated() -> None:
    assert context_check().elicitations(()) == []
    got = measure(Evidence.of([]), Evidence.of([]), contexts=())
    assert got.estimate is None
    assert "no training sample" in got.note


def test_a_context_with_too_few_scores_is_no_evidence() -> None:
    half = Evidence.of(
        s for s in evidence({}).of_check("context") if not s.elicitation.form.startswith(DESK.id)
    )
    got = measure(half, evidence({}))
    assert got.estimate is None
    assert "desk" in got.note


def test_common_triggers_are_asked_without_any_sample() -> None:
    asked = context_check("triggers").elicitations(())
    assert len({elicitation.form.split(".")[0] for elicitation in asked}) >= 11


def test_equal_contexts_share_their_keys_and_different_ones_do_not() -> None:
    renamed = TAG.model_copy(update={"label": "other name"})
    keys = {e.key for e in context_check().elicitations((TAG,))}
    assert keys == {e.key for e in context_check().elicitations((renamed,))}
    inside = {e.key for e in context_check().elicitations((DESK,)) if "outside" not in e.form}
    assert not inside & keys


def test_the_interval_of_the_lowest_shift_covers_it_as_often_as_promised() -> None:
    runs, below, above = 300, 0, 0
    truth = {TAG.id: -0.1, DESK.id: -0.1}
    for run in range(runs):
        got = measure(
            evidence(truth, noise=0.5, seed=2 * run + 10), evidence({}, 0.5, 2 * run + 11)
        )
        assert got.estimate is not None
        below += got.estimate.lower > -0.1
        above += got.estimate.upper < -0.1
    # Five percent are allowed; 8.7% would be three standard errors over it.
    assert below <= 0.087 * runs
    assert above <= 0.087 * runs
