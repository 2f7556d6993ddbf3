"""The rules of deploy/prometheus and their tests, as they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
CASE_FILES = sorted((PROMETHEUS / "tests").glob("*.yml"))


def read(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


RULES: list[dict[str, Any]] = [
    rule for path in RULE_FILES for group in read(path)["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"]: rule for rule in RULES if "record" in rule}
CASES: list[dict[str, Any]] = [case for path in CASE_FILES for case in read(path)["tests"]]


def minutes(text: str) -> int:
    """A time of a case: they are all in whole minutes."""
    return int(text.removesuffix("m"))
