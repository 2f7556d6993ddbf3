"""Dashboards as a reader meets them: their variables filled in, as Grafana would."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).resolve().parents[1] / "deploy" / "grafana" / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(DASHBOARDS.glob("*.json"))
}
#: What Grafana sets by itself.
BUILT_IN = ("__interval", "__rate_interval", "__range")
_VARIABLE = re.compile(r"\$\{(\w+)(?:\.[\w.]+)?(?::\w+)?\}|\$(\w+)")
_VALUES_OF = re.compile(r"label_values\((.+), (\w+)\)")


def used(text: str) -> set[str]:
    """The names of the variables that a text has in it."""
    return {braced or bare for braced, bare in _VARIABLE.findall(text)}


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with each variable's value in its place; a variable without one is an error."""
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], text)


def asked_of(variable: Mapping[str, Any]) -> tuple[str, str]:
    """The series and the label whose values a variable offers."""
    found = _VALUES_OF.fullmatch(variable["query"])
    assert found, f"{variable['name']} is no label_values(series, label): {variable['query']}"
    return found[1], found[2]
