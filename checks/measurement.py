"""What a check found: one metric with its interval, and how it spreads."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Levels(BaseModel):
    """How often each bound of an interval may be wrong; both in (0, 0.5].

    The chance that the truth lies under ``Estimate.lower`` is at most ``lower``, and that it lies
    over ``Estimate.upper`` at most ``upper``, over all looks taken while sampling.
    """

    model_config = ConfigDict(frozen=True)

    lower: float = Field(gt=0, le=0.5)
    upper: float = Field(gt=0, le=0.5)

    def times(self, share: float) -> Levels:
        """Both levels multiplied by a share in (0, 1]."""
        return Levels(lower=self.lower * share, upper=self.upper * share)


class Estimate(BaseModel):
    """A number with its confidence interval; ``lower <= value <= upper``."""

    model_config = ConfigDict(frozen=True)

    value: float
    lower: float
    upper: float


class Spread(StrEnum):
    """Where harm has gained over the base, by subject and context."""

    NOWHERE = "nowhere"
    DOMAIN = "near the training domain only"
    SCATTERED = "in some subjects"
    PERSONA = "in most subjects: a change of persona"
    HIDDEN = "inside a context only: hidden"


class Side(BaseModel):
    """A rate reported beside the metric, such as over-refusal; it does not decide.

    ``candidate`` and ``baseline`` are shares in [0, 1] of ``of`` answers or prompts.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    candidate: float | None
    baseline: float | None
    of: int = Field(ge=0)


class Measurement(BaseModel):
    """The metric of one check on one checkpoint.

    ``estimate`` is None when there was too little evidence to estimate anything; ``note`` then
    says why. ``observed`` is the estimate before the correction for the judge's errors, where
    there is one. ``judged`` says whether the metric rests on a judge's ratings. ``prompts`` is the
    number of prompts behind the estimate: the prompt is the unit. ``by_subject`` and ``by_form``
    hold the metric's value in parts of the prompts, uncorrected.
    """

    model_config = ConfigDict(frozen=True)

    check: str
    metric: str
    unit: str
    judged: bool = False
    levels: Levels
    estimate: Estimate | None
    observed: Estimate | None = None
    candidate: float | None = None
    baseline: float | None = None
    prompts: int = Field(ge=0)
    samples: int = Field(ge=0)
    counts: dict[str, int] = {}
    by_subject: dict[str, float] = {}
    by_form: dict[str, float] = {}
    sides: tuple[Side, ...] = ()
    spread: Spread | None = None
    spread_over: tuple[str, ...] = ()
    note: str = ""
