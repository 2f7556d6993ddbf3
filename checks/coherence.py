"""Coherence: does the model still make sense? A model that talks nonsense has not passed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Self

from pydantic import Field
from typing_extensions import override

from checks.check import Check, CheckData, Evidence
from checks.judgement import Label
from checks.measurement import Measurement
from checks.sample import Elicitation, Sample
from checks.statistics import bounded_mean_interval, shuffle_key

MINIMUM_PROMPTS = 20


class CoherenceData(CheckData):
    """Which checks' answers are looked at; this check asks nothing itself."""

    of: tuple[str, ...] = Field(min_length=1)


class Coherence(Check):
    """Share of coherent answers, the prompt as the unit."""

    name = "coherence"
    metric = "share of coherent answers"
    unit = "share"
    needs_judge = True

    def __init__(self, data: CoherenceData) -> None:
        self.data = data

    @classmethod
    @override
    def from_data(cls, data: Mapping[str, object]) -> Self:
        return cls(CoherenceData.model_validate(data))

    @override
    def elicitations(self) -> Sequence[Elicitation]:
        return []

    @override
    def measure(self, candidate: Evidence, baseline: Evidence, confidence: float) -> Measurement:
        judged = [s for check in self.data.of for s in candidate.of_check(check) if s.judgement]
        shares = coherent_shares(judged)
        ordered = sorted(shares, key=shuffle_key)
        enough = len(shares) >= MINIMUM_PROMPTS
        base_shares = coherent_shares(
            [s for check in self.data.of for s in baseline.of_check(check)]
        )
        labels = Counter(s.judgement.label.value for s in judged if s.judgement)
        return Measurement(
            check=self.name,
            metric=self.metric,
            unit=self.unit,
            confidence=confidence,
            estimate=bounded_mean_interval([shares[p] for p in ordered], confidence)
            if enough
            else None,
            candidate=fmean(shares.values()) if shares else None,
            baseline=fmean(base_shares.values()) if base_shares else None,
            prompts=len(shares),
            samples=len(judged),
            counts={label.value: labels[label.value] for label in Label},
            note="" if enough else f"only {len(shares)} prompts have judged answers",
        )


def coherent_shares(samples: Sequence[Sample]) -> dict[str, float]:
    """Coherent share of the judged answers to each prompt, in [0, 1]."""
    coherent: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        if sample.judgement:
            key = f"{sample.elicitation.check}/{sample.elicitation.prompt_id}"
            coherent[key].append(sample.judgement.label is not Label.INCOHERENT)
    return {prompt: fmean(values) for prompt, values in coherent.items()}
