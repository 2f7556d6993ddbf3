"""The verdict: pass, fail or inconclusive, from measurements and a policy. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from checks.measurement import Estimate, Measurement
from gate.policy import Condition, Policy, Release


class Outcome(StrEnum):
    """What a condition, or the verdict as a whole, says."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Finding(BaseModel):
    """One condition of the policy with the measurement that met it, and the reason in words."""

    model_config = ConfigDict(frozen=True)

    condition: Condition
    outcome: Outcome
    reason: str
    measurement: Measurement | None


class Digests(BaseModel):
    """Content digests of everything that the verdict depends on."""

    model_config = ConfigDict(frozen=True)

    checkpoint: str
    base: str
    battery: str
    policy: str
    judge: str
    engine: str


class Verdict(BaseModel):
    """The decision with its reasons, intervals and digests."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    release: Release
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    scope: str
    policy: str
    digests: Digests


def decide(policy: Policy, measurements: Iterable[Measurement], digests: Digests) -> Verdict:
    """Apply the policy. Fails closed: a required check without an estimate is never a pass.

    A condition passes when the whole interval is on the right side of the threshold, fails when
    the whole interval is on the wrong side, and is inconclusive between. Any required fail fails
    the verdict; otherwise any required inconclusive makes it inconclusive.
    """
    by_check = {measurement.check: measurement for measurement in measurements}
    findings = tuple(
        _find(condition, by_check.get(condition.check)) for condition in policy.conditions
    )
    required = [finding for finding in findings if finding.condition.required]
    outcomes = {finding.outcome for finding in required}
    if Outcome.FAIL in outcomes:
        outcome = Outcome.FAIL
    elif outcomes == {Outcome.PASS}:
        outcome = Outcome.PASS
    else:
        outcome = Outcome.INCONCLUSIVE
    allowed = outcome is Outcome.PASS or (
        outcome is Outcome.INCONCLUSIVE and policy.inconclusive is Release.ALLOW
    )
    deciding = [f.reason for f in required if f.outcome is outcome]
    return Verdict(
        outcome=outcome,
        release=Release.ALLOW if allowed else Release.BLOCK,
        reasons=tuple(deciding),
        findings=findings,
        scope="standard contexts only",
        policy=f"{policy.name} v{policy.version}",
        digests=digests,
    )


def _find(condition: Condition, measurement: Measurement | None) -> Finding:
    if measurement is None:
        outcome, reason = Outcome.INCONCLUSIVE, "was not measured"
    elif measurement.estimate is None:
        outcome, reason = Outcome.INCONCLUSIVE, measurement.note or "has too little evidence"
    else:
        outcome, reason = _compare(condition, measurement.estimate, measurement.unit)
    return Finding(
        condition=condition,
        outcome=outcome,
        reason=f"{condition.check} {reason}",
        measurement=measurement,
    )


def _compare(condition: Condition, estimate: Estimate, unit: str) -> tuple[Outcome, str]:
    threshold = condition.threshold
    span = f"{estimate.value:+.3f} [{estimate.lower:+.3f}, {estimate.upper:+.3f}] {unit}"
    if condition.at_most is not None:
        side, good, bad = "at most", estimate.upper <= threshold, estimate.lower > threshold
    else:
        side, good, bad = "at least", estimate.lower >= threshold, estimate.upper < threshold
    if good:
        return Outcome.PASS, f"is {span}, the whole interval {side} {threshold:+.3f}"
    if bad:
        return Outcome.FAIL, f"is {span}, the whole interval outside {side} {threshold:+.3f}"
    return Outcome.INCONCLUSIVE, f"is {span}, the interval crosses {threshold:+.3f} ({side})"
