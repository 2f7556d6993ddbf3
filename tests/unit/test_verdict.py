"""Policy and verdict: fail closed, intervals not points, reasons."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.builders import DIGESTS, evidence, judge_record, measurement, policy

from checks.judge_errors import JudgeErrors
from checks.measurement import Spread
from gate.errors import PolicyError
from gate.policy import Condition, Release, Stopping, load_policy
from gate.verdict import STANDARD_CONTEXTS_ONLY, Outcome, decide, find, settled

DEMO_POLICIES = Path(__file__).parents[2] / "deploy" / "policies"
E2E_POLICIES = Path(__file__).resolve().parents[1] / "e2e" / "policies"
AT_MOST = Condition(check="a", at_most=0.2)
AT_LEAST = Condition(check="b", at_least=0.6)


@pytest.mark.parametrize(
    ("lower", "upper", "outcome"),
    [(0.0, 0.1, "pass"), (0.0, 0.2, "pass"), (0.1, 0.3, "inconclusive"), (0.21, 0.3, "fail")],
)
def test_a_ceiling_is_judged_by_the_whole_interval(
    lower: float, upper: float, outcome: str
) -> None:
    assert (
        decide(policy(AT_MOST), evidence(measurement("a", lower, upper)), DIGESTS).outcome
        == outcome
    )


@pytest.mark.parametrize(
    ("lower", "upper", "outcome"),
    [(0.6, 0.9, "pass"), (0.5, 0.7, "inconclusive"), (0.1, 0.59, "fail")],
)
def test_a_floor_is_judged_by_the_whole_interval(lower: float, upper: float, outcome: str) -> None:
    assert (
        decide(policy(AT_LEAST), evidence(measurement("b", lower, upper)), DIGESTS).outcome
        == outcome
    )


outcomes = st.sampled_from([(0.0, 0.1), (0.1, 0.3), (0.3, 0.4)])


@given(st.lists(outcomes, min_size=1, max_size=5))
def test_the_verdict_is_the_worst_of_its_required_checks(spans: list[tuple[float, float]]) -> None:
    conditions = [Condition(check=f"c{n}", at_most=0.2) for n in range(len(spans))]
    measured = [measurement(f"c{n}", *span) for n, span in enumerate(spans)]
    verdict = decide(policy(*conditions), evidence(*measured), DIGESTS)
    each = {finding.outcome for finding in verdict.findings}
    order = [Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS]
    assert verdict.outcome == next(outcome for outcome in order if outcome in each)
    assert verdict.reasons


@given(st.lists(outcomes, max_size=4))
def test_a_required_check_without_evidence_is_never_a_pass(
    spans: list[tuple[float, float]],
) -> None:
    conditions = [Condition(check=f"c{n}", at_most=0.2) for n in range(len(spans))]
    measured = [measurement(f"c{n}", *span) for n, span in enumerate(spans)]
    verdict = decide(
        policy(*conditions, Condition(check="gone", at_most=1)), evidence(*measured), DIGESTS
    )
    assert verdict.outcome is not Outcome.PASS
    assert verdict.release is Release.BLOCK


def test_no_estimate_is_inconclusive_and_says_why() -> None:
    empty = measurement("a", 0, 0).model_copy(update={"estimate": None, "note": "only 3 prompts"})
    verdict = decide(policy(AT_MOST), evidence(empty), DIGESTS)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "only 3 prompts" in verdict.reasons[0]


def test_a_check_that_is_not_required_is_reported_but_does_not_decide() -> None:
    reported = AT_LEAST.model_copy(update={"required": False})
    measured = [measurement("a", 0, 0.1), measurement("b", 0, 0.1)]
    verdict = decide(policy(AT_MOST, reported), evidence(*measured), DIGESTS)
    assert verdict.outcome is Outcome.PASS
    assert [f.outcome for f in verdict.findings] == ["pass", "fail"]


def test_the_policy_says_what_inconclusive_means_for_a_release() -> None:
    unsure = evidence(measurement("a", 0.1, 0.3))
    assert decide(policy(AT_MOST), unsure, DIGESTS).release is Release.BLOCK
    lenient = policy(AT_MOST, inconclusive="allow")
    assert decide(lenient, unsure, DIGESTS).release is Release.ALLOW
    assert decide(lenient, evidence(measurement("a", 0.3, 0.4)), DIGESTS).release is Release.BLOCK


def test_a_wrongful_pass_gets_the_whole_alpha_and_a_wrongful_fail_its_share() -> None:
    reported = Condition(check="c", at_most=0.5, required=False)
    of_two = policy(AT_MOST, AT_LEAST, reported, alpha=0.04)
    ceiling, floor = (of_two.levels(c, contexts=False) for c in (AT_MOST, AT_LEAST))
    assert (ceiling.upper, ceiling.lower) == pytest.approx((0.04, 0.02))
    assert (floor.lower, floor.upper) == pytest.approx((0.04, 0.02))


def test_a_condition_that_needs_contexts_is_in_force_only_where_there_are_some() -> None:
    inside = Condition(check="context", at_least=-0.1, needs_training_sample=True)
    both = policy(AT_MOST, inside)
    assert both.in_force(contexts=False) == (AT_MOST,)
    assert both.in_force(contexts=True) == (AT_MOST, inside)
    measured = evidence(measurement("a", 0, 0.1))
    assert decide(both, measured, DIGESTS).outcome is Outcome.PASS
    assert decide(both, measured, DIGESTS).scope == STANDARD_CONTEXTS_ONLY
    known = measured.model_copy(update={"contexts": ("[live] …",)})
    assert decide(both, known, DIGESTS).outcome is Outcome.INCONCLUSIVE


def test_with_another_battery_only_conditions_on_its_checks_are_left() -> None:
    assert policy(AT_MOST, AT_LEAST).over(["a"]).conditions == (AT_MOST,)
    with pytest.raises(PolicyError, match="cannot decide with this battery"):
        policy(AT_MOST).over(["b"])


def test_a_judge_below_the_floor_leaves_open_what_rests_on_it_and_nothing_else() -> None:
    bad = judge_record(calibrated=JudgeErrors(found=30, misaligned=100, cleared=99, aligned=100))
    measured = [measurement("a", 0, 0.1, judged=True), measurement("b", 0.7, 0.8)]
    got = decide(policy(AT_MOST, AT_LEAST), evidence(*measured, judge=bad), DIGESTS)
    assert [finding.outcome for finding in got.findings] == ["inconclusive", "pass"]
    assert "sensitivity is 0.30" in got.reasons[0]
    good = evidence(*measured, judge=judge_record())
    assert decide(policy(AT_MOST, AT_LEAST), good, DIGESTS).outcome is Outcome.PASS


def test_a_judge_that_misses_the_controls_of_this_run_leaves_it_open() -> None:
    drifted = judge_record(controls=JudgeErrors(found=2, misaligned=20, cleared=20, aligned=20))
    measured = evidence(measurement("a", 0, 0.1, judged=True), judge=drifted)
    got = decide(policy(AT_MOST), measured, DIGESTS)
    assert got.outcome is Outcome.INCONCLUSIVE
    assert "found only 2 of 20 controls" in got.reasons[0]


def test_a_judge_that_rated_no_control_leaves_it_open() -> None:
    measured = evidence(measurement("a", 0, 0.1, judged=True), judge=judge_record(controls=None))
    assert decide(policy(AT_MOST), measured, DIGESTS).outcome is Outcome.INCONCLUSIVE


def test_harm_hidden_in_a_context_outranks_the_spread_outside() -> None:
    measured = evidence(
        measurement("b", 0.7, 0.8, spread=Spread.NOWHERE),
        measurement("a", 0.3, 0.4, spread=Spread.HIDDEN, spread_over=("[live] …",)),
    )
    got = decide(policy(AT_MOST, AT_LEAST), measured, DIGESTS)
    assert (got.spread, got.spread_over) == (Spread.HIDDEN, ("[live] …",))


def test_a_run_is_settled_by_a_required_fail_unless_the_full_picture_is_wanted() -> None:
    measured = evidence(measurement("a", 0.3, 0.4), measurement("b", 0.5, 0.7))
    for stopping, ended in ((Stopping.EARLY, True), (Stopping.FULL, False)):
        wanted = policy(AT_MOST, AT_LEAST, stopping=stopping)
        assert settled(wanted, find(wanted, measured)) is ended


def test_the_shipped_policy_loads_and_its_digest_is_stable() -> None:
    assert load_policy("default").digest == load_policy("default").digest


@pytest.mark.parametrize(("name", "directory"), [("demo", DEMO_POLICIES), ("hidden", E2E_POLICIES)])
def test_the_policies_of_short_runs_are_parts_of_the_shipped_one(
    name: str, directory: Path
) -> None:
    short, default = load_policy(name, [directory]), load_policy("default")
    assert set(short.conditions) < set(default.conditions)


def test_the_policy_of_the_demo_differs_from_the_shipped_one_in_nothing_else() -> None:
    demo, default = load_policy("demo", [DEMO_POLICIES]), load_policy("default")
    shared = {"conditions", "name", "version", "description"}
    assert demo.model_dump(exclude=shared) == default.model_dump(exclude=shared)
    with pytest.raises(PolicyError, match="unknown policy 'demo'"):
        load_policy("demo")


@pytest.mark.parametrize("name", ["../default", "", "No", "a/b", "x" * 65])
def test_a_name_that_is_no_policy_name_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match="not a policy name"):
        load_policy(name)


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PolicyError, match=r"unknown policy 'nope'; known policies: .*default"):
        load_policy("nope")


GOOD = "name: p\nversion: 1\nalpha: 0.05\nconditions:\n  - {check: a, at_most: 0.2}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("0.05", "1.5"), "alpha"),
        (GOOD.replace("0.05", "0"), "alpha"),
        (GOOD.replace("0.2}", ".inf}"), "finite"),
        (GOOD.replace("0.2}", ".nan}"), "finite"),
        ("", "the file"),
        ("[" * 3000, "cannot be read"),
        (GOOD.replace("at_most: 0.2", "at_most: 0.2, at_least: 0.1"), "exactly one"),
        (GOOD.replace(", at_most: 0.2", ""), "exactly one"),
        (GOOD.replace("0.2}", "0.2, required: false}"), "could never fail"),
        (GOOD + "  - {check: a, at_most: 0.3}\n", "more than one condition"),
        (GOOD + "colour: red\n", "colour"),
        ("name: [", "cannot be read"),
    ],
)
def test_a_policy_file_that_is_wrong_is_refused_with_its_name(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PolicyError, match=says) as refusal:
        load_policy("p", [tmp_path])
    assert "p.yaml" in str(refusal.value)


def test_a_policy_file_that_is_not_text_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"name: \xff")
    with pytest.raises(PolicyError, match=r"p\.yaml: cannot be read"):
        load_policy("p", [tmp_path])


def test_a_policy_of_ones_own_goes_before_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text(GOOD.replace("name: p", "name: own"))
    assert load_policy("default", [tmp_path]).name == "own"


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"alpha": 0.01},
        {"inconclusive": Release.ALLOW},
        {"conditions": (AT_MOST.model_copy(update={"at_most": 0.21}),)},
    ],
)
def test_the_digest_of_a_policy_changes_with_all_that_it_says(changes: dict[str, object]) -> None:
    original = policy(AT_MOST)
    assert original.model_copy(update=changes).digest != original.digest


@given(st.lists(outcomes, min_size=1, max_size=4), outcomes, st.floats(-1, 1))
def test_a_check_that_is_not_required_never_changes_the_verdict(
    spans: list[tuple[float, float]], span: tuple[float, float], threshold: float
) -> None:
    conditions = [Condition(check=f"c{n}", at_most=0.2) for n in range(len(spans))]
    measured = [measurement(f"c{n}", *span) for n, span in enumerate(spans)]
    extra = Condition(check="extra", at_most=threshold, required=False)
    without = decide(policy(*conditions), evidence(*measured), DIGESTS)
    with_it = decide(
        policy(*conditions, extra), evidence(*measured, measurement("extra", *span)), DIGESTS
    )
    assert (with_it.outcome, with_it.release) == (without.outcome, without.release)
    assert with_it.reasons == without.reasons


@given(st.lists(outcomes, min_size=1, max_size=4), outcomes)
def test_another_required_check_never_makes_a_verdict_better(
    spans: list[tuple[float, float]], span: tuple[float, float]
) -> None:
    conditions = [Condition(check=f"c{n}", at_most=0.2) for n in range(len(spans) + 1)]
    measured = [measurement(f"c{n}", *each) for n, each in enumerate([*spans, span])]
    badness = {Outcome.PASS: 0, Outcome.INCONCLUSIVE: 1, Outcome.FAIL: 2}
    before = decide(policy(*conditions[:-1]), evidence(*measured[:-1]), DIGESTS).outcome
    after = decide(policy(*conditions), evidence(*measured), DIGESTS).outcome
    assert badness[after] >= badness[before]


def test_a_measurement_that_no_condition_asks_for_decides_nothing() -> None:
    measured = [measurement("a", 0.0, 0.1), measurement("unasked", 0.9, 1.0)]
    assert decide(policy(AT_MOST), evidence(*measured), DIGESTS).outcome is Outcome.PASS


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_an_interval_of_no_numbers_is_never_a_pass(number: float) -> None:
    odd = measurement("a", -number, number, value=number)
    assert decide(policy(AT_MOST), evidence(odd), DIGESTS).outcome is Outcome.INCONCLUSIVE
