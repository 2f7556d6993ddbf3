"""The chart's values are described, refuse what is wrong, and agree with code and docs."""

from __future__ import annotations

import copy
import importlib.util
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from gate.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "deploy" / "helm" / "em-gate"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
ABOUT = yaml.safe_load((CHART / "Chart.yaml").read_text())
VARIANTS = sorted((CHART / "ci").glob("*-values.yaml"))
LINT = YamlLintConfig(
    "{extends: default, rules: {document-start: disable, line-length: {max: 120}, "
    "braces: {max-spaces-inside: 0}, comments: {min-spaces-from-content: 1}}}"
)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The script that writes what the chart repeats."""
    file = REPOSITORY / "deploy" / "helm" / "generate.py"
    spec = importlib.util.spec_from_file_location("chart_generate", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def merged(values: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Values as helm lays them over others: maps are merged, anything else is replaced."""
    result = copy.deepcopy(values)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(result[name], value) if both else value
    return result


def errors(values: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft7Validator(SCHEMA)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(values)]


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("file", [CHART / "values.yaml", *VARIANTS], ids=lambda f: f.name)
def test_values_that_ship_are_right(file: Path) -> None:
    assert errors(merged(VALUES, yaml.safe_load(file.read_text()))) == []


def test_there_are_values_for_the_tests() -> None:
    assert [file.name for file in VARIANTS] == [
        "full-values.yaml",
        "gpu-values.yaml",
        "minimal-values.yaml",
    ]


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"replicas": 2}, "'replicas' was unexpected"),
        ({"judging": None}, "$.judging: None is not of type 'object'"),
        ({"settings": {"GATE_ENGINE_COMMAND": ["x"]}}, "'GATE_ENGINE_COMMAND' was unexpected"),
        ({"settings": {"GATE_BROKER_URL": "redis://:secret@b"}}, "'GATE_BROKER_URL'"),
        ({"workers": [{"device": "cpu"}]}, "$.workers[0]: 'name' is a required property"),
        ({"workers": [{"name": "a", "gpu": {"count": 0}}]}, "0 is less than the minimum of 1"),
        ({"home": {"sizeLimit": "50 GB"}}, "$.home.sizeLimit: '50 GB' does not match"),
        ({"networkPolicies": {"judge": [{"to": [], "ports": []}]}}, "should be non-empty"),
        ({"secretEnvironment": {"worker": {"HF_TOKEN": "hf_abc"}}}, "is not of type 'object'"),
        ({"files": {"policies": {"../strict.yaml": "x"}}}, "does not match"),
    ],
)
def test_wrong_values_are_refused_with_their_place(over: dict[str, Any], message: str) -> None:
    found = errors(merged(VALUES, over))
    assert any(message in error for error in found), found


def test_no_value_can_be_taken_away() -> None:
    """Helm drops what is null before it looks into the schema."""
    for name in VALUES:
        rest = {key: value for key, value in VALUES.items() if key != name}
        assert errors(rest) == [f"$: '{name}' is a required property"]


def test_every_value_is_described() -> None:
    undescribed = list(_undescribed(SCHEMA, VALUES))
    assert not undescribed


def _undescribed(
    schema: dict[str, Any], values: dict[str, Any], parents: str = ""
) -> Iterator[str]:
    for name, value in values.items():
        node = schema["properties"].get(name, {})
        if "properties" in node:
            yield from _undescribed(node, value, f"{parents}{name}.")
        elif not node.get("description"):
            yield parents + name


def test_schema_and_docs_repeat_what_code_and_values_say(
    generate: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main(check=True) == 0, (
        f"{capsys.readouterr().out}run: python deploy/helm/generate.py"
    )


def test_what_the_chart_sets_itself_are_settings(generate: ModuleType) -> None:
    assert set(Settings.model_fields) >= generate.SET_BY_THE_CHART


def test_the_chart_is_of_this_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert ABOUT["appVersion"] == project["version"]
    assert ABOUT["name"] == project["name"]


@pytest.mark.parametrize(
    "file", [CHART / "values.yaml", CHART / "Chart.yaml", *VARIANTS], ids=lambda f: f.name
)
def test_yamllint_finds_nothing(file: Path) -> None:
    assert [str(problem) for problem in linter.run(file.read_text(), LINT)] == []
