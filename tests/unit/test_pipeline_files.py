"""The action, the template and the examples of deploy/ci, as files; their scripts run elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema.validators import validator_for
from pipeline_files import ACTION, CI, STEP, TEMPLATE, documents, module_of

REPOSITORY = CI.parents[1]
ACTIONS = documents(ACTION)[0]
SPEC, JOBS = documents(TEMPLATE)
DOCS = (REPOSITORY / "docs" / "pipelines.md").read_text(encoding="utf-8")
#: Variables that the step reads, by the names in its source.
READ = {
    f"GATE_{name}"
    for name in re.findall(r'(?:text|flag|file)\("([A-Z_]+)"', STEP.read_text(encoding="utf-8"))
}
#: Where the GitLab template says itself where its artifacts are, and what is no input there.
FIXED = {"GATE_JUNIT", "GATE_REPORT", "GATE_SUMMARY", "GATE_DOTENV"}


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        ("github/action.yml", "vendor.github-actions"),
        ("github/example-workflow.yml", "vendor.github-workflows"),
        ("gitlab/em-gate.gitlab-ci.yml", "vendor.gitlab-ci"),
        ("gitlab/example.gitlab-ci.yml", "vendor.gitlab-ci"),
    ],
)
def test_every_file_has_the_form_that_its_platform_asks_for(file: str, schema: str) -> None:
    form: Any = get_builtin_schema(schema)
    validator = validator_for(form)(form)
    for document in documents(CI / file):
        assert [error.message for error in validator.iter_errors(document)] == []


def test_the_action_hands_every_input_to_the_step_and_every_output_out() -> None:
    (gate,) = ACTIONS["runs"]["steps"]
    assert set(gate["env"]) == READ
    used = re.findall(r"\$\{\{ inputs\.([a-z-]+) \}\}", " ".join(gate["env"].values()))
    assert sorted(used) == sorted(ACTIONS["inputs"])
    step = STEP.read_text(encoding="utf-8")
    for name, output in ACTIONS["outputs"].items():
        assert output["value"] == f"${{{{ steps.gate.outputs.{name} }}}}"
        assert f"{name.replace('-', '_')}=" in step


def test_no_text_of_an_input_is_run() -> None:
    for step in ACTIONS["runs"]["steps"]:
        assert "${{" not in step["run"]
    for document in documents(CI / "github" / "example-workflow.yml"):
        for job in document["jobs"].values():
            assert all("${{" not in step.get("run", "") for step in job["steps"])
    assert all("$[[" not in line for line in JOBS[".em-gate"]["script"])


def test_the_template_hands_every_input_to_the_step() -> None:
    variables = JOBS[".em-gate"]["variables"]
    assert set(variables) == (READ - {"GATE_API_KEY"}) | FIXED
    used = set(re.findall(r"\$\[\[ inputs\.([a-z-]+) \]\]", TEMPLATE.read_text(encoding="utf-8")))
    assert used == set(SPEC["spec"]["inputs"])


def test_the_template_has_no_input_for_the_key() -> None:
    assert "key" not in SPEC["spec"]["inputs"]


def test_both_platforms_have_the_same_inputs_with_the_same_defaults() -> None:
    own = {"key", "junit", "report", "job", "stage", "image"}
    action = {k: v.get("default") for k, v in ACTIONS["inputs"].items() if k not in own}
    template = {k: v.get("default") for k, v in SPEC["spec"]["inputs"].items() if k not in own}
    # A job that extends .em-gate may name its checkpoint in a variable.
    assert template == {**action, "checkpoint": ""}


def test_the_template_carries_the_step_as_it_is() -> None:
    """After a change of the step: python deploy/ci/gitlab/carry.py."""
    carry = module_of(CI / "gitlab" / "carry.py")
    template, step = TEMPLATE.read_text(encoding="utf-8"), STEP.read_text(encoding="utf-8")
    assert carry.carrying(template, step) == template
    assert step in JOBS[".em-gate"]["script"][0]


def test_examples_and_docs_name_only_inputs_and_outputs_that_there_are() -> None:
    inputs, outputs = set(ACTIONS["inputs"]), set(ACTIONS["outputs"])
    required = {name for name, value in ACTIONS["inputs"].items() if value.get("required")}
    example = (CI / "github" / "example-workflow.yml").read_text(encoding="utf-8")
    given = [
        step["with"]
        for text in (example, *snippets("yaml"))
        for step in _steps_of(text)
        if "/deploy/ci/github@" in step.get("uses", "")
    ]
    assert len(given) > 1
    for names in given:
        assert required <= set(names) <= inputs
    for text in (example, *snippets("yaml")):
        assert set(re.findall(r"steps\.gate\.outputs\.([a-z-]+)", text)) <= outputs
    template_inputs = set(SPEC["spec"]["inputs"])
    included = [
        include["inputs"]
        for text in (*snippets("yaml"), (CI / "gitlab/example.gitlab-ci.yml").read_text())
        for include in _includes_of(text)
    ]
    assert len(included) > 1
    for names in included:
        assert {"url"} <= set(names) <= template_inputs


def test_the_docs_have_a_row_for_every_variable() -> None:
    rows = set(re.findall(r"^\| `(GATE_[A-Z_]+)`", DOCS, re.MULTILINE))
    assert rows == READ | FIXED


def _steps_of(text: str) -> list[dict[str, Any]]:
    content = _load(text)
    if isinstance(content, list):
        return [step for step in content if isinstance(step, dict)]
    jobs = content.get("jobs", {}).values() if isinstance(content, dict) else []
    return [step for job in jobs for step in job.get("steps", [])]


def _includes_of(text: str) -> list[dict[str, Any]]:
    content = _load(text)
    found = content.get("include", []) if isinstance(content, dict) else []
    return [include for include in found if "inputs" in include]


def _load(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(text)


def test_every_file_that_the_docs_name_exists() -> None:
    named = re.findall(r"\]\((\.\./[^)#]+)\)", DOCS)
    assert named
    for name in named:
        assert (Path(REPOSITORY, "docs") / name).exists(), name
