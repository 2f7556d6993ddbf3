"""What is installed and what a battery asks, in numbers: for listings, nothing is measured here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import entry_points

from pydantic import BaseModel, ConfigDict

from checks.battery import Battery, Origin
from checks.check import ENTRY_POINT_GROUP, Check


class InstalledCheck(BaseModel):
    """A check that some installed distribution offers. It was not loaded to find this out."""

    model_config = ConfigDict(frozen=True)

    name: str
    distribution: str
    version: str
    object: str


class CheckSummary(BaseModel):
    """One check of a battery.

    ``prompts`` counts the units, ``elicitations`` everything that is asked of one model for them.
    ``subjects`` counts prompts, ``forms`` elicitations. A check that asks nothing itself names
    others in ``evidence_from``.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    metric: str
    unit: str
    needs_judge: bool
    needs_baseline: bool
    prompts: int
    elicitations: int
    subjects: Mapping[str, int]
    forms: Mapping[str, int]
    evidence_from: tuple[str, ...]
    file: str
    licence: str
    source: str


class BatterySummary(BaseModel):
    """A battery and its checks, in order."""

    model_config = ConfigDict(frozen=True)

    id: str
    version: int
    digest: str
    elicitations: int
    checks: tuple[CheckSummary, ...]


def summarise(battery: Battery) -> BatterySummary:
    """Count what a battery asks when a submission brings no context of its own."""
    checks = tuple(
        _of_check(check, origin)
        for check, origin in zip(battery.checks, battery.origins, strict=True)
    )
    return BatterySummary(
        id=battery.id,
        version=battery.version,
        digest=battery.digest,
        elicitations=sum(check.elicitations for check in checks),
        checks=checks,
    )


def installed_checks() -> list[InstalledCheck]:
    """All checks that batteries can name, by name."""
    found = [
        InstalledCheck(
            name=entry.name,
            distribution=entry.dist.name if entry.dist else "unknown",
            version=entry.dist.version if entry.dist else "unknown",
            object=entry.value,
        )
        for entry in entry_points(group=ENTRY_POINT_GROUP)
    ]
    return sorted(found, key=lambda check: (check.name, check.distribution))


def _of_check(check: Check, origin: Origin) -> CheckSummary:
    asked = check.elicitations()
    subjects = check.subjects()
    prompts = list(dict.fromkeys(e.prompt_id for e in asked))
    return CheckSummary(
        name=check.name,
        metric=check.metric,
        unit=check.unit,
        needs_judge=check.needs_judge,
        needs_baseline=check.needs_baseline,
        prompts=len(prompts),
        elicitations=len(asked),
        subjects=Counter(subjects[prompt] for prompt in prompts if prompt in subjects),
        forms=Counter(e.form for e in asked),
        evidence_from=check.evidence_from,
        file=origin.file,
        licence=origin.licence,
        source=origin.source,
    )
