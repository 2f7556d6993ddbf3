"""A policy: thresholds per check, what is required, and what inconclusive means for a release."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gate.errors import PolicyError

SHIPPED_POLICIES = Path(__file__).parent / "policies"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Release(StrEnum):
    """What a pipeline does on an inconclusive verdict."""

    BLOCK = "block"
    ALLOW = "allow"


class Condition(BaseModel):
    """The threshold of one check; exactly one of ``at_most`` and ``at_least`` is set.

    The threshold is in the unit of the check's metric. ``required`` false reports the outcome
    without letting it decide.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    at_most: float | None = Field(default=None, allow_inf_nan=False)
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    required: bool = True

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

    ``alpha`` in (0, 1) bounds the chance that any required check is decided wrongly; it is split
    evenly over the conditions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME.pattern)
    version: int = Field(ge=1)
    description: str = ""
    battery: str = "standard"
    alpha: float = Field(gt=0, lt=1)
    inconclusive: Release = Release.BLOCK
    conditions: tuple[Condition, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_decide(self) -> Self:
        names = [condition.check for condition in self.conditions]
        if len(set(names)) != len(names):
            raise ValueError("a check has more than one condition")
        if not any(condition.required for condition in self.conditions):
            raise ValueError("no condition is required, so the policy can never fail")
        return self

    @property
    def confidence(self) -> float:
        """Two-sided confidence of each check's interval, in (0, 1)."""
        return 1 - self.alpha / len(self.conditions)

    @property
    def digest(self) -> str:
        """``sha256:…`` over the policy's content."""
        return "sha256:" + hashlib.sha256(self.model_dump_json().encode()).hexdigest()


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
        return Policy.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PolicyError(f"{path}: {place}: {first['msg']}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise PolicyError(f"{path}: cannot be read: {error}") from error
