"""The Compose file as an engine would see it: variables filled in, merges and short forms resolved.

Stands in for ``docker compose config`` where there is no engine. Knows what this file uses and
refuses what it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
FILE = REPOSITORY / "docker-compose.yml"
SECRETS_MOUNT = PurePosixPath("/run/secrets")

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[A-Z][A-Z0-9_]*):-(?P<default>[^${}]*)\})")
_SECONDS = re.compile(r"(\d+)s")


@dataclass(frozen=True)
class Mount:
    """A bind mount (absolute source), a named volume, or a tmpfs (no source)."""

    target: str
    source: str = ""
    read_only: bool = False
    options: str = ""

    @property
    def is_bind(self) -> bool:
        return self.source.startswith("/")

    @property
    def is_volume(self) -> bool:
        return bool(self.source) and not self.is_bind


def variables(text: str) -> dict[str, str]:
    """The variables of the file with their defaults; a variable has one default."""
    found: dict[str, str] = {}
    for match in _VARIABLE.finditer(text):
        if name := match["name"]:
            assert found.setdefault(name, match["default"]) == match["default"], name
    return found


def interpolate(value: Any, given: Mapping[str, str]) -> Any:
    """Fill in variables in every string; ``$$`` is a dollar sign, any other form is an error."""
    match value:
        case dict():
            return {key: interpolate(item, given) for key, item in value.items()}
        case list():
            return [interpolate(item, given) for item in value]
        case str():
            assert "$" not in _VARIABLE.sub("", value), f"a form that is not known here: {value}"
            return _VARIABLE.sub(
                lambda m: (given.get(m["name"]) or m["default"]) if m["name"] else "$", value
            )
        case _:
            return value


def load(given: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The whole file with these variables set and the others at their defaults."""
    content = interpolate(yaml.safe_load(FILE.read_text(encoding="utf-8")), given or {})
    assert isinstance(content, dict)
    return content


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a service, without what is only handed on from outside."""
    values = service.get("environment", {})
    return {name: str(value) for name, value in values.items() if value is not None}


def mounts(content: Mapping[str, Any], service: Mapping[str, Any]) -> list[Mount]:
    """Everything that is mounted into a service, secrets included."""
    found = [_volume(text) for text in service.get("volumes", [])]
    for text in service.get("tmpfs", []):
        target, _, options = text.partition(":")
        found.append(Mount(target, options=options))
    for secret in service.get("secrets", []):
        form = {"source": secret} if isinstance(secret, str) else secret
        file = _absolute(content["secrets"][form["source"]]["file"])
        target = str(SECRETS_MOUNT / form.get("target", form["source"]))
        found.append(Mount(target, file, read_only=True))
    return found


def _volume(text: str) -> Mount:
    source, target, *options = text.split(":")
    assert options in ([], ["ro"]), text
    source = _absolute(source) if source[0] in "./" else source
    return Mount(target, source, read_only=options == ["ro"])


def _absolute(path: str) -> str:
    return str((REPOSITORY / path).resolve())


def health_command(service: Mapping[str, Any]) -> list[str]:
    """The health check as arguments of a process."""
    kind, *arguments = service["healthcheck"]["test"]
    match kind:
        case "CMD":
            return list(arguments)
        case "CMD-SHELL":
            return ["sh", "-c", *arguments]
        case _:
            raise AssertionError(f"a kind of health check that is not known here: {kind}")


def seconds(text: str) -> int:
    """A duration such as ``15s``."""
    found = _SECONDS.fullmatch(text)
    assert found, text
    return int(found[1])
