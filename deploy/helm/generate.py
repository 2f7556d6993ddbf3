"""Writes what the chart repeats: setting names into its schema, its values into the docs.

Usage: python deploy/helm/generate.py [--check]. With ``--check`` nothing is written, and the exit
code is 1 when something would be.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gate.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "deploy" / "helm" / "em-gate"
SCHEMA = CHART / "values.schema.json"
VALUES = CHART / "values.yaml"
DOCS = REPOSITORY / "docs" / "kubernetes.md"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"

#: Settings that the chart derives from other values, and the command of the tests' fake engine.
SET_BY_THE_CHART = frozenset(
    {
        "api_host",
        "api_port",
        "broker_url",
        "database_url",
        "device",
        "engine_command",
        "home",
        "hooks_file",
        "judge",
        "judging",
        "policy_directories",
        "worker_metrics_host",
        "worker_metrics_port",
        "worker_metrics_ports",
    }
)


def schema_with_settings(text: str) -> str:
    """The schema, with the settings of the code as the only ones that values may set."""
    schema = json.loads(text)
    schema["definitions"]["settings"]["properties"] = {
        f"GATE_{name.upper()}": {"description": field.description} if field.description else {}
        for name, field in sorted(Settings.model_fields.items())
        if name not in SET_BY_THE_CHART
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def docs_with_values(text: str, schema: dict[str, Any], values: dict[str, Any]) -> str:
    """The page, with the table of all values between its two marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    rows = [
        f"| `{path}` | `{default}` | {what} |" for path, default, what in leaves(schema, values)
    ]
    table = "\n".join(["| value | default | what it is |", "| --- | --- | --- |", *rows])
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def leaves(
    schema: dict[str, Any], values: dict[str, Any], parents: tuple[str, ...] = ()
) -> Iterator[tuple[str, str, str]]:
    """Path, default and description of every value, in the order of the values file."""
    for name, value in values.items():
        described = schema["properties"][name]
        path = (*parents, name)
        if "properties" in described:
            yield from leaves(described, value, path)
        else:
            shown = json.dumps(value, ensure_ascii=False)
            yield ".".join(path), shown, described["description"].replace("|", "\\|")


def main(check: bool) -> int:
    """Write both files, or say which would be written."""
    schema = schema_with_settings(SCHEMA.read_text())
    values = yaml.safe_load(VALUES.read_text())
    wanted = {
        SCHEMA: schema,
        DOCS: docs_with_values(DOCS.read_text(), json.loads(schema), values),
    }
    stale = [path for path, text in wanted.items() if path.read_text() != text]
    for path in stale:
        print(f"{path.relative_to(REPOSITORY)}: {'is stale' if check else 'written'}")
        if not check:
            path.write_text(wanted[path])
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
