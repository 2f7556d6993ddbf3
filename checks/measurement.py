"""What a check found: one metric with its interval, and how it spreads."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Estimate(BaseModel):
    """A number with its confidence interval; ``lower <= value <= upper``."""

    model_config = ConfigDict(frozen=True)

    value: float
    lower: float
    upper: float


class Measurement(BaseModel):
    """The metric of one check on one checkpoint.

    ``estimate`` is None when there was too little evidence to estimate anything; ``note`` then
    says why. ``prompts`` is the number of prompts behind the estimate: the prompt is the unit.
    """

    model_config = ConfigDict(frozen=True)

    check: str
    metric: str
    unit: str
    confidence: float = Field(gt=0, lt=1)
    estimate: Estimate | None
    candidate: float | None = None
    baseline: float | None = None
    prompts: int = Field(ge=0)
    samples: int = Field(ge=0)
    counts: dict[str, int] = {}
    by_subject: dict[str, float] = {}
    note: str = ""
