"""A battery: a named, versioned, content-addressed list of checks with their prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from checks.check import Check, UnknownCheckError, check_class
from checks.sample import Elicitation

DATA_DIRECTORY = Path(__file__).parent / "data"


class BatteryError(Exception):
    """A battery file cannot be used; the message names the file and what is wrong in it."""


class BatteryEntry(BaseModel):
    """One check of a battery file: its name, its prompt file, and settings laid over that file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    file: str
    settings: dict[str, object] = {}


class BatteryFile(BaseModel):
    """The form of a battery file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    version: int
    checks: tuple[BatteryEntry, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Battery:
    """Checks in order, identified by the digest of everything that they ask."""

    id: str
    version: int
    checks: tuple[Check, ...]
    content: str

    @cached_property
    def digest(self) -> str:
        """``sha256:…`` over the battery file and all prompt files, settings included."""
        return "sha256:" + hashlib.sha256(self.content.encode()).hexdigest()

    def elicitations(self) -> Sequence[Elicitation]:
        """Everything that the battery asks, check by check."""
        return [e for check in self.checks for e in check.elicitations()]

    def check(self, name: str) -> Check | None:
        """The check of that name, if the battery has it."""
        return next((check for check in self.checks if check.name == name), None)


def load_battery(name_or_path: str = "standard") -> Battery:
    """Load a battery that is shipped (by name) or a battery file (by path).

    Raises:
        BatteryError: the file is missing or not of the right form, or names an unknown check.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = DATA_DIRECTORY / f"{name_or_path}.battery.yaml"
    try:
        described = BatteryFile.model_validate(_read_yaml(path))
        entries = [_entry_data(path, entry) for entry in described.checks]
        checks = tuple(
            check_class(entry.check).from_data(data)
            for entry, data in zip(described.checks, entries, strict=True)
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BatteryError(f"{path}: {place}: {first['msg']}") from error
    except UnknownCheckError as error:
        raise BatteryError(f"{path}: {error}") from error
    battery = Battery(
        id=described.id,
        version=described.version,
        checks=checks,
        content=json.dumps([described.model_dump(), entries], sort_keys=True),
    )
    keys = [elicitation.key for elicitation in battery.elicitations()]
    if len(keys) != len(set(keys)):
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise BatteryError(f"{path}: two prompts share the id {repeated}")
    return battery


def _entry_data(battery_path: Path, entry: BatteryEntry) -> dict[str, object]:
    path = battery_path.parent / entry.file
    data = _read_yaml(path)
    if not isinstance(data, dict):
        raise BatteryError(f"{path}: expected a mapping at the top")
    return {**data, **entry.settings}


def _read_yaml(path: Path) -> object:
    try:
        with path.open(encoding="utf-8") as stream:
            loaded: object = yaml.safe_load(stream)
            return loaded
    except OSError as error:
        raise BatteryError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BatteryError(f"{path}: not valid YAML: {error}") from error
