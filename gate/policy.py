"""A policy: thresholds per check, what is required, and what inconclusive means for a release."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from checks.measurement import Levels
from gate.errors import PolicyError

SHIPPED_POLICIES = Path(__file__).parent / "policies"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Release(StrEnum):
    """What a pipeline does on an inconclusive verdict."""

    BLOCK = "block"
    ALLOW = "allow"


class Stopping(StrEnum):
    """When sampling ends."""

    EARLY = "early"
    FULL = "full"


class JudgeFloor(BaseModel):
    """How good a judge must be for its ratings to count.

    ``sensitivity`` and ``specificity`` in [0, 1] are the least that its calibration may show.
    ``controls`` is how many answers of known label are slipped into every run; a judge whose
    labels of these are surely below the floor has changed since it was calibrated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sensitivity: float = Field(default=0.5, ge=0, le=1)
    specificity: float = Field(default=0.8, ge=0, le=1)
    controls: int = Field(default=40, ge=20, le=400)


class Condition(BaseModel):
    """The threshold of one check; exactly one of ``at_most`` and ``at_least`` is set.

    The threshold is in the unit of the check's metric. ``required`` false reports the outcome
    without letting it decide. ``needs_training_sample`` puts the condition out of force for a
    submission whose training sample, if any, shows no context, and that declared none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    at_most: float | None = Field(default=None, allow_inf_nan=False)
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    required: bool = True
    needs_training_sample: bool = False

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give exactly one of at_most and at_least")
        return self

    @property
    def threshold(self) -> float:
        """The threshold, whichever side it bounds."""
        return self.at_most if self.at_most is not None else float(self.at_least or 0.0)


class Policy(BaseModel):
    """A versioned policy file.

    ``alpha`` in (0, 0.5] bounds, each by itself, the chance that a checkpoint passes which violates
    a required condition, and the chance that one fails which violates none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME.pattern)
    version: int = Field(ge=1)
    description: str = ""
    battery: str = "standard"
    alpha: float = Field(gt=0, le=0.5)
    inconclusive: Release = Release.BLOCK
    stopping: Stopping = Stopping.EARLY
    judge: JudgeFloor = JudgeFloor()
    require_training_sample: bool = False
    conditions: tuple[Condition, ...] = Field(min_length=1)
    #: Days for which samples are kept after the end; None: as the settings say.
    retention_days: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _can_decide(self) -> Self:
        names = [condition.check for condition in self.conditions]
        if len(set(names)) != len(names):
            raise ValueError("a check has more than one condition")
        always = [c for c in self.conditions if c.required and not c.needs_training_sample]
        if not always:
            raise ValueError(
                "no condition is required of every submission, so the policy could never fail"
            )
        return self

    def over(self, checks: Collection[str]) -> Policy:
        """This policy with only the conditions on the checks of a battery that was chosen.

        Raises:
            PolicyError: nothing that is required of every submission would be left.
        """
        kept = [c.model_dump() for c in self.conditions if c.check in checks]
        try:
            return Policy.model_validate({**self.model_dump(), "conditions": kept})
        except ValidationError as error:
            asked = ", ".join(c.check for c in self.conditions)
            raise PolicyError(
                f"policy '{self.name}' cannot decide with this battery: it has conditions on "
                f"{asked}, and the battery has {', '.join(sorted(checks))}"
            ) from error

    def in_force(self, contexts: bool) -> tuple[Condition, ...]:
        """The conditions that a submission has to meet.

        Args:
            contexts: whether a training sample or a declaration gave contexts to ask in.
        """
        return tuple(c for c in self.conditions if contexts or not c.needs_training_sample)

    def levels(self, condition: Condition, contexts: bool) -> Levels:
        """How often each bound of a condition's interval may be wrong.

        A checkpoint passes only when it meets every required condition, so a wrongful pass needs a
        wrong bound of the very condition that it violates: each gets the whole alpha (intersection
        and union, Berger 1982). One wrong bound on the other side is enough for a wrongful fail:
        alpha is split evenly over the required conditions (Bonferroni).
        """
        required = sum(c.required for c in self.in_force(contexts))
        passing, failing = self.alpha, self.alpha / max(1, required)
        if condition.at_most is not None:
            return Levels(lower=failing, upper=passing)
        return Levels(lower=passing, upper=failing)

    @property
    def digest(self) -> str:
        """``sha256:…`` over everything of the policy that a verdict depends on."""
        content = self.model_dump_json(exclude={"retention_days"})
        return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def load_policy(name: str, directories: Sequence[Path] = ()) -> Policy:
    """Find ``NAME.yaml`` in the directories, then among the shipped policies.

    Raises:
        PolicyError: the name is not a policy name, no such file, or the file is wrong.
    """
    if not _NAME.fullmatch(name):
        raise PolicyError(
            f"'{name}' is not a policy name: use lower-case letters, digits, dots and dashes"
        )
    for directory in (*directories, SHIPPED_POLICIES):
        path = directory / f"{name}.yaml"
        if path.is_file():
            return _read(path)
    known = ", ".join(policy_names(directories))
    raise PolicyError(f"unknown policy '{name}'; known policies: {known}")


def policy_names(directories: Sequence[Path] = ()) -> list[str]:
    """Names of all policies that :func:`load_policy` finds."""
    found = {p.stem for d in (*directories, SHIPPED_POLICIES) for p in d.glob("*.yaml")}
    return sorted(found)


def _read(path: Path) -> Policy:
    try:
        found = path.stat()
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error}") from error
    return _parsed(path, found.st_ino, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=256)
def _parsed(path: Path, _inode: int, _changed: int, _size: int) -> Policy:
    """Read a policy file once for as long as it does not change: every submission needs one."""
    try:
        return Policy.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PolicyError(f"{path}: {place}: {first['msg']}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise PolicyError(f"{path}: cannot be read: {error}") from error
