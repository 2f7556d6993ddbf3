"""A battery: a named, versioned, content-addressed list of checks with their prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from checks.bounded_yaml import UnreadableYamlError, read_yaml_file
from checks.check import Check, UnknownCheckError, check_class
from checks.sample import Elicitation

DATA_DIRECTORY = Path(__file__).parent / "data"
_ENDING = ".battery.yaml"


class BatteryError(Exception):
    """A battery file cannot be used; the message names the file and what is wrong in it."""


class BatteryEntry(BaseModel):
    """One check of a battery file: its name, its prompt file, and settings laid over that file.

    ``file`` is relative to the battery file. A check that asks nothing itself may go without: its
    settings are then all that it is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    file: str | None = None
    settings: dict[str, object] = {}


class BatteryFile(BaseModel):
    """The form of a battery file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    version: int
    checks: tuple[BatteryEntry, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Origin:
    """Where the prompts of one check come from: the file, and what the file says of itself.

    ``licence`` and ``source`` are empty where the file does not state them.
    """

    file: str
    licence: str
    source: str


@dataclass(frozen=True)
class Battery:
    """Checks in order, identified by the digest of everything that they ask.

    ``origins`` are those of the checks, in the same order.
    """

    id: str
    version: int
    checks: tuple[Check, ...]
    content: str
    origins: tuple[Origin, ...] = ()

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


def shipped_batteries() -> list[str]:
    """Names of the batteries that come with this package."""
    return sorted(p.name.removesuffix(_ENDING) for p in DATA_DIRECTORY.glob(f"*{_ENDING}"))


def load_battery(name_or_path: str = "standard") -> Battery:
    """Load a battery that is shipped (by name) or a battery file (by path).

    Raises:
        BatteryError: the file is missing or not of the right form, names an unknown check, or two
            prompts share an id.
    """
    battery = read_battery(name_or_path)
    repeated = repeated_keys(battery)
    if repeated:
        path = battery_path(name_or_path)
        raise BatteryError(f"{path}: two prompts share the id {repeated[0].key}")
    return battery


def read_battery(name_or_path: str) -> Battery:
    """Read a battery as :func:`load_battery` does, but let prompts share ids: for linting.

    Raises:
        BatteryError: the file is missing or not of the right form, or names an unknown check.
    """
    path = battery_path(name_or_path)
    try:
        described = BatteryFile.model_validate(_read_yaml(path))
    except ValidationError as error:
        raise BatteryError(f"{path}: {_first(error)}") from error
    entries = [_entry_data(path, entry) for entry in described.checks]
    origins = tuple(
        _origin(path, entry, data) for entry, data in zip(described.checks, entries, strict=True)
    )
    checks = tuple(
        _build(path, entry, data, origin)
        for entry, data, origin in zip(described.checks, entries, origins, strict=True)
    )
    return Battery(
        id=described.id,
        version=described.version,
        checks=checks,
        content=json.dumps([described.model_dump(), entries], sort_keys=True, default=str),
        origins=origins,
    )


def battery_path(name_or_path: str) -> Path:
    """The battery file that a name or a path means."""
    path = Path(name_or_path)
    return path if path.suffix in {".yaml", ".yml"} else DATA_DIRECTORY / f"{path}{_ENDING}"


def repeated_keys(battery: Battery) -> list[Elicitation]:
    """Elicitations with a key that an earlier one of the battery has."""
    seen: set[str] = set()
    repeated = []
    for elicitation in battery.elicitations():
        if elicitation.key in seen:
            repeated.append(elicitation)
        seen.add(elicitation.key)
    return repeated


def _build(path: Path, entry: BatteryEntry, data: Mapping[str, object], origin: Origin) -> Check:
    try:
        return check_class(entry.check).from_data(data)
    except ValidationError as error:
        raise BatteryError(f"{origin.file}: check '{entry.check}': {_first(error)}") from error
    except UnknownCheckError as error:
        raise BatteryError(f"{path}: {error}") from error
    except (ImportError, AttributeError) as error:
        raise BatteryError(f"{path}: check '{entry.check}' cannot be loaded: {error}") from error


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{place}: {first['msg']}"


def _entry_data(path: Path, entry: BatteryEntry) -> dict[str, object]:
    if entry.file is None:
        return dict(entry.settings)
    file = path.parent / entry.file
    data = _read_yaml(file)
    if not isinstance(data, dict):
        raise BatteryError(f"{file}: expected a mapping at the top")
    return {**{key: _included(file, value) for key, value in data.items()}, **entry.settings}


def _included(path: Path, value: object) -> object:
    """The content of another file where a value is ``{file: NAME}``; else the value."""
    if isinstance(value, dict) and value.keys() == {"file"} and isinstance(value["file"], str):
        return _read_yaml(path.parent / value["file"])
    return value


def _origin(path: Path, entry: BatteryEntry, data: Mapping[str, object]) -> Origin:
    file = path if entry.file is None else path.parent / entry.file
    licence, source = data.get("licence"), data.get("source")
    return Origin(
        file=str(file),
        licence=licence if isinstance(licence, str) else "",
        source=source if isinstance(source, str) else "",
    )


def _read_yaml(path: Path) -> object:
    try:
        return read_yaml_file(path)
    except OSError as error:
        raise BatteryError(f"{path}: {error.strerror}") from error
    except UnreadableYamlError as error:
        raise BatteryError(f"{path}: {error}") from error
