"""What a check is: prompts, how to elicit, how to score, one metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from checks.measurement import Measurement
from checks.sample import Elicitation, Sample

#: Entry point group through which a check is found, here and in other distributions.
ENTRY_POINT_GROUP = "emgate.checks"


class CheckData(BaseModel):
    """What every prompt file states besides its prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    version: int
    licence: str
    source: str


@dataclass(frozen=True)
class Evidence:
    """All samples of one checkpoint under one battery, by check."""

    by_check: Mapping[str, Sequence[Sample]]

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Evidence:
        """Group samples by the check that asked for them."""
        by_check: dict[str, list[Sample]] = {}
        for sample in samples:
            by_check.setdefault(sample.elicitation.check, []).append(sample)
        return cls(by_check)

    def of_check(self, check: str) -> Sequence[Sample]:
        """The samples that a check asked for; empty if there are none."""
        return self.by_check.get(check, ())


class Check(ABC):
    """One measurement of a model. A new check is a subclass, a prompt file and an entry point."""

    #: Name in batteries, policies and reports.
    name: ClassVar[str]
    #: One line for people: what the metric is.
    metric: ClassVar[str]
    #: Unit of the metric.
    unit: ClassVar[str]
    #: Whether the answers have to be rated before :meth:`measure`.
    needs_judge: ClassVar[bool] = False
    #: Whether the metric compares with the base model.
    needs_baseline: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def from_data(cls, data: Mapping[str, object]) -> Check:
        """Build the check from its entry in a battery file, prompts included.

        Raises:
            pydantic.ValidationError: the data is not of this check's form.
        """

    @abstractmethod
    def elicitations(self) -> Sequence[Elicitation]:
        """Everything to ask the model, with keys unique within the check."""

    @abstractmethod
    def measure(self, candidate: Evidence, baseline: Evidence, confidence: float) -> Measurement:
        """Compute the metric with a two-sided interval of the given confidence in (0, 1).

        Never raises on thin evidence: the measurement then has no estimate and a note.
        """


class UnknownCheckError(Exception):
    """A battery names a check that no installed distribution offers."""


def check_class(name: str) -> type[Check]:
    """Find a check by name among the installed distributions.

    Raises:
        UnknownCheckError: no entry point of that name.
    """
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        loaded: type[Check] = entry.load()
        return loaded
    known = sorted(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))
    raise UnknownCheckError(f"unknown check '{name}'; installed: {', '.join(known) or 'none'}")
