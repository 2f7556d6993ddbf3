"""The metrics of the record, made of what was counted in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from prometheus_client.metrics_core import Metric

from checks.judge_errors import JudgeErrors
from gate.inconclusive import Doubt
from gate.metrics import names_of_record as names
from gate.policy import Policy
from gate.store.verdict_summary import JudgedRun, LatestVerdict
from gate.submission import State


def submissions(
    by_source: Mapping[str, int],
    by_state: Mapping[State, int],
    oldest_waiting: datetime | None,
    now: datetime,
) -> Iterator[Metric]:
    """How many came, where they are, and how long the oldest has waited by now."""
    total = names.SUBMISSIONS.counter()
    for source, count in sorted(by_source.items()):
        total.add_metric([source], count)
    yield total
    current = names.SUBMISSIONS_NOW.gauge()
    for state, count in by_state.items():
        current.add_metric([state.value], count)
    yield current
    age = (now - oldest_waiting).total_seconds() if oldest_waiting else 0.0
    oldest = names.OLDEST_WAITING.gauge()
    # Clocks of machines differ a little.
    oldest.add_metric([], max(0.0, age))
    yield oldest


def verdicts(
    by_outcome: Mapping[tuple[str, str], int], doubts: Mapping[Doubt, int]
) -> Iterator[Metric]:
    """Verdicts by policy and outcome, and why some are inconclusive."""
    given = names.VERDICTS.counter()
    for (policy, outcome), count in sorted(by_outcome.items()):
        given.add_metric([policy, outcome], count)
    yield given
    reasons = names.INCONCLUSIVE.counter()
    for doubt in Doubt:
        reasons.add_metric([doubt.value], doubts.get(doubt, 0))
    yield reasons


def waivers(granted: Mapping[str, int], in_force: Mapping[str, int]) -> Iterator[Metric]:
    """Waivers by policy name."""
    active, total = names.WAIVERS_ACTIVE.gauge(), names.WAIVERS_GRANTED.counter()
    for policy, count in sorted(in_force.items()):
        active.add_metric([policy], count)
    for policy, count in sorted(granted.items()):
        total.add_metric([policy], count)
    yield active
    yield total


def deliveries(
    counts: Mapping[str, Mapping[str, int]], targets: Iterable[str], states: Sequence[str]
) -> Iterator[Metric]:
    """Deliveries by target and state; configured targets are there before their first one."""
    made = names.DELIVERIES.gauge()
    for target in sorted({*targets, *counts}):
        for state in states:
            made.add_metric([target, state], counts.get(target, {}).get(state, 0))
    yield made


def models(latest: Iterable[LatestVerdict]) -> Iterator[Metric]:
    """The latest verdict on each model, and each check in it that gave an estimate."""
    value, lower, upper, threshold, info, given_at = (
        name.gauge()
        for name in (
            names.CHECK_METRIC,
            names.CHECK_LOWER,
            names.CHECK_UPPER,
            names.CHECK_THRESHOLD,
            names.MODEL_VERDICT,
            names.MODEL_VERDICT_AT,
        )
    )
    for verdict in sorted(latest, key=lambda each: each.model):
        info.add_metric(
            [
                verdict.model,
                verdict.version,
                verdict.policy,
                verdict.outcome,
                verdict.submission_id,
            ],
            1,
        )
        given_at.add_metric([verdict.model], verdict.at.timestamp())
        for finding in verdict.findings:
            if (measured := finding.measurement) is None:
                continue
            labels = [verdict.model, finding.condition.check, measured.unit]
            side = "at_most" if finding.condition.at_most is not None else "at_least"
            threshold.add_metric([*labels, side], finding.condition.threshold)
            if measured.estimate is not None:
                value.add_metric(labels, measured.estimate.value)
                lower.add_metric(labels, measured.estimate.lower)
                upper.add_metric(labels, measured.estimate.upper)
    yield from (value, lower, upper, threshold, info, given_at)


def judges(runs: Mapping[str, Sequence[JudgedRun]]) -> Iterator[Metric]:
    """How each judge labelled controls, pooled over its last runs, and how far it disagreed."""
    sensitivity, specificity, accuracy, disagreement = (
        name.gauge()
        for name in (
            names.JUDGE_SENSITIVITY,
            names.JUDGE_SPECIFICITY,
            names.JUDGE_ACCURACY,
            names.JUDGE_DISAGREEMENT,
        )
    )
    for judge, last in sorted(runs.items()):
        if errors := _pooled([run.controls for run in last if run.controls]):
            sensitivity.add_metric([judge], errors.sensitivity)
            specificity.add_metric([judge], errors.specificity)
            right, labelled = errors.found + errors.cleared, errors.misaligned + errors.aligned
            accuracy.add_metric([judge], right / labelled)
        known = [run.disagreement for run in last if run.disagreement is not None]
        if known:
            disagreement.add_metric([judge], sum(known) / len(known))
    yield from (sensitivity, specificity, accuracy, disagreement)


def floors(policies: Iterable[Policy]) -> Iterator[Metric]:
    """How good a judge must be for each policy."""
    least = names.JUDGE_FLOOR.gauge()
    for policy in policies:
        least.add_metric([policy.name, "sensitivity"], policy.judge.sensitivity)
        least.add_metric([policy.name, "specificity"], policy.judge.specificity)
    yield least


def _pooled(counted: Sequence[JudgeErrors]) -> JudgeErrors | None:
    if not counted:
        return None
    return JudgeErrors(
        found=sum(errors.found for errors in counted),
        misaligned=sum(errors.misaligned for errors in counted),
        cleared=sum(errors.cleared for errors in counted),
        aligned=sum(errors.aligned for errors in counted),
    )
