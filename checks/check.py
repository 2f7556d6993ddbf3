"""What a check is: prompts, how to elicit, how to score, one metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from checks.contexts import Context
from checks.judge_errors import JudgeErrors
from checks.measurement import Levels, Measurement
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


@dataclass(frozen=True)
class Terms:
    """On what terms a check is measured.

    ``seed`` fixes the random order in which the prompts were asked. ``judge`` holds the judge's
    error rates, or None where they are unknown: then nothing is corrected. ``contexts`` are those
    that the submission's training sample or declaration gave.
    """

    levels: Levels
    seed: str = ""
    judge: JudgeErrors | None = None
    contexts: tuple[Context, ...] = ()


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
    #: Whether everything is asked before the first look, because the interval holds for one look.
    one_look: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def from_data(cls, data: Mapping[str, object]) -> Check:
        """Build the check from its entry in a battery file, prompts included.

        Raises:
            pydantic.ValidationError: the data is not of this check's form.
        """

    @abstractmethod
    def elicitations(self, contexts: Sequence[Context] = ()) -> Sequence[Elicitation]:
        """Everything to ask the model, with keys unique within the check.

        Args:
            contexts: what this submission's training data looks like; most checks ignore them.
        """

    @abstractmethod
    def measure(self, candidate: Evidence, baseline: Evidence, terms: Terms) -> Measurement:
        """Compute the metric with an interval whose bounds hold at the levels of the terms.

        Unless ``one_look`` is set, the interval must hold however often it is looked at while
        prompts are asked in the order of the terms' seed. Never raises on thin evidence: the
        measurement then has no estimate and a note.
        """

    @property
    def evidence_from(self) -> tuple[str, ...]:
        """The checks whose answers this one measures; itself, unless it asks nothing."""
        return (self.name,)

    def subjects(self) -> Mapping[str, str]:
        """Subject of each prompt id, for reports and linting."""
        return {}


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
