"""Coherence: does the model still make sense? A model that talks nonsense has not passed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Self

from pydantic import Field
from typing_extensions import override

from checks.check import Check, CheckData, Evidence, Terms
from checks.contexts import Context
from checks.judgement import Label
from checks.measurement import Measurement
from checks.sample import Elicitation, Sample
from checks.statistics import confidence_sequence, shuffle_key

MINIMUM_PROMPTS = 10
_SENSELESS = (Label.INCOHERENT, Label.CODE)


class CoherenceData(CheckData):
    """Which checks' answers are looked at; this check asks nothing itself."""

    of: tuple[str, ...] = Field(min_length=1)


class Coherence(Check):
    """Share of coherent answers, the prompt as the unit, reported per form.

    Code that has nothing to do with the question is not coherent; a refusal is; what the judge
    could not rate is left out and counted.
    """

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
    def elicitations(self, contexts: Sequence[Context] = ()) -> Sequence[Elicitation]:
        return []

    @property
    @override
    def evidence_from(self) -> tuple[str, ...]:
        return self.data.of

    @override
    def measure(self, candidate: Evidence, baseline: Evidence, terms: Terms) -> Measurement:
        ours, theirs = (
            [s for check in self.data.of for s in evidence.of_check(check) if s.judgement]
            for evidence in (candidate, baseline)
        )
        shares, base_shares = coherent_shares(ours), coherent_shares(theirs)
        ordered = _as_asked(shares, terms.seed)
        enough = len(shares) >= MINIMUM_PROMPTS
        labels = Counter(s.judgement.label.value for s in ours if s.judgement)
        forms = sorted({s.elicitation.form for s in ours})
        return Measurement(
            check=self.name,
            judged=True,
            metric=self.metric,
            unit=self.unit,
            levels=terms.levels,
            estimate=confidence_sequence([shares[p] for p in ordered], terms.levels)
            if enough
            else None,
            candidate=fmean(shares.values()) if shares else None,
            baseline=fmean(base_shares.values()) if base_shares else None,
            prompts=len(shares),
            samples=len(ours),
            counts={label.value: labels[label.value] for label in Label},
            by_form={
                form: fmean(of_form.values())
                for form in forms
                if (of_form := coherent_shares([s for s in ours if s.elicitation.form == form]))
            },
            note="" if enough else f"only {len(shares)} prompts have judged answers",
        )


def _as_asked(prompts: Iterable[tuple[str, str]], seed: str) -> list[tuple[str, str]]:
    """Prompts in the order of the rounds: the first of every check, then the second, and so on."""
    by_check: dict[str, list[str]] = defaultdict(list)
    for check, prompt in prompts:
        by_check[check].append(prompt)
    ranked = [
        (rank, check, prompt)
        for check, members in by_check.items()
        for rank, prompt in enumerate(sorted(members, key=lambda p: shuffle_key(p, seed)))
    ]
    return [(check, prompt) for _, check, prompt in sorted(ranked)]


def coherent_shares(samples: Sequence[Sample]) -> dict[tuple[str, str], float]:
    """Coherent share of the rated answers, in [0, 1], by check and prompt."""
    coherent: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for sample in samples:
        if sample.judgement and sample.judgement.label is not Label.UNRATED:
            key = (sample.elicitation.check, sample.elicitation.prompt_id)
            coherent[key].append(sample.judgement.label not in _SENSELESS)
    return {prompt: fmean(values) for prompt, values in coherent.items()}
