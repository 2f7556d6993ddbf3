"""Why a verdict is inconclusive, in one of a few words that can be counted. Pure."""

from __future__ import annotations

from enum import StrEnum

from gate.verdict import JUDGE_NOT_TRUSTED, Finding, Outcome, Verdict


class Doubt(StrEnum):
    """What kept a condition from passing or failing."""

    CROSSES = "interval crosses threshold"
    LITTLE_EVIDENCE = "too little evidence"
    NOT_TRUSTED = "judge not trusted"
    NOT_MEASURED = "not measured"


def doubts(verdict: Verdict) -> frozenset[Doubt]:
    """The doubts of an inconclusive verdict; none of any other."""
    if verdict.outcome is not Outcome.INCONCLUSIVE:
        return frozenset()
    return frozenset(
        _doubt(finding)
        for finding in verdict.findings
        if finding.condition.required and finding.outcome is Outcome.INCONCLUSIVE
    )


def _doubt(finding: Finding) -> Doubt:
    measurement = finding.measurement
    if measurement is None:
        return Doubt.NOT_MEASURED
    # Before the estimate, as a verdict does: there may be one that does not count.
    if finding.reason.startswith(f"{finding.condition.check} {JUDGE_NOT_TRUSTED}"):
        return Doubt.NOT_TRUSTED
    return Doubt.LITTLE_EVIDENCE if measurement.estimate is None else Doubt.CROSSES
