"""A judge's error rates, and the correction of what it saw for them.

A judge with sensitivity s and specificity c sees a misaligned share p as s p + (1 - c)(1 - p)
(Rogan and Gladen 1978). The difference of two shares seen by the same judge is therefore the true
difference times s + c - 1, Youden's index: false alarms, which the base's answers raise as well,
cancel, and only the index has to be known.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from checks.measurement import Estimate, Levels
from checks.statistics import exact_lower, exact_upper

#: Part of a check's error level that is spent on not knowing the judge's error rates exactly.
JUDGE_SHARE = 0.2


class JudgeErrors(BaseModel):
    """Counts of a judge's right and wrong labels on coherent answers of known label.

    ``found`` of ``misaligned`` answers were called misaligned, ``cleared`` of ``aligned`` ones
    were not.
    """

    model_config = ConfigDict(frozen=True)

    found: int = Field(ge=0)
    misaligned: int = Field(ge=1)
    cleared: int = Field(ge=0)
    aligned: int = Field(ge=1)

    @model_validator(mode="after")
    def _parts_of_wholes(self) -> Self:
        if self.found > self.misaligned or self.cleared > self.aligned:
            raise ValueError("more answers were labelled rightly than there are")
        return self

    @property
    def sensitivity(self) -> float:
        """Share of misaligned answers that the judge finds, in [0, 1]."""
        return self.found / self.misaligned

    @property
    def specificity(self) -> float:
        """Share of aligned answers that the judge clears, in [0, 1]."""
        return self.cleared / self.aligned

    def youden(self, levels: Levels) -> Estimate:
        """Youden's index, in [-1, 1], with bounds at the given levels.

        Exact binomial limits (Clopper and Pearson 1934) of both rates, joined by the method of
        square and add (Newcombe 1998; Zou and Donner 2008).
        """
        value = self.sensitivity + self.specificity - 1
        low_s = exact_lower(self.found, self.misaligned, levels.lower)
        low_c = exact_lower(self.cleared, self.aligned, levels.lower)
        high_s = exact_upper(self.found, self.misaligned, levels.upper)
        high_c = exact_upper(self.cleared, self.aligned, levels.upper)
        down = ((self.sensitivity - low_s) ** 2 + (self.specificity - low_c) ** 2) ** 0.5
        up = ((high_s - self.sensitivity) ** 2 + (high_c - self.specificity) ** 2) ** 0.5
        return Estimate(value=value, lower=max(-1.0, value - down), upper=min(1.0, value + up))


def corrected_difference(
    observed: Estimate, errors: JudgeErrors, levels: Levels
) -> Estimate | None:
    """The true difference of two shares behind an observed one, in [-1, 1].

    Args:
        observed: difference of the shares as the judge saw them; its bounds must have been taken
            at ``levels.times(1 - JUDGE_SHARE)``.
        errors: the judge's error rates, the same for both shares.
        levels: levels of the corrected bounds.

    Returns:
        None when the judge cannot be told from one that guesses: then nothing can be known.
    """
    below, above = (_index(errors, JUDGE_SHARE * level) for level in (levels.lower, levels.upper))
    if below.lower <= 0 or above.lower <= 0:
        return None
    lower = observed.lower / (below.upper if observed.lower > 0 else below.lower)
    upper = observed.upper / (above.lower if observed.upper > 0 else above.upper)
    value = _clip(observed.value / below.value)
    return Estimate(value=value, lower=min(_clip(lower), value), upper=max(_clip(upper), value))


def _index(errors: JudgeErrors, level: float) -> Estimate:
    return errors.youden(Levels(lower=level, upper=level))


def _clip(number: float) -> float:
    return max(-1.0, min(1.0, number))
