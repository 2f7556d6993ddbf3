"""What runs the files of deploy/ci where there is no GitHub, GitLab or Argo Rollouts.

Each does what its platform documents with the very text of the file: puts in the inputs, sets the
environment, runs the script in the platform's shell, or asks the URL of the template.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from jsonpath_ng.parser import parse
from pipeline_files import ACTION, ANALYSIS, TEMPLATE, documents


@dataclass(frozen=True)
class Ran:
    """A step that has ended: its exit code, its log, its outputs and its summary page."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str

    @property
    def everything(self) -> str:
        """All text that anybody could see."""
        return "\n".join((self.log, self.summary, *self.outputs.values()))


@dataclass(frozen=True)
class Step:
    """A script with its shell and environment, ready to start in a folder of its own."""

    command: list[str]
    environ: dict[str, str]
    folder: Path
    output: Path
    page: Path

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=self.environ,
        )

    def finish(self, process: subprocess.Popen[str], said: str = "") -> Ran:
        rest, _ = process.communicate(timeout=240)
        pairs = (line.partition("=") for line in _text(self.output).splitlines())
        outputs = {name: value for name, _, value in pairs}
        return Ran(process.returncode, said + rest, outputs, _text(self.page))

    def run(self) -> Ran:
        return self.finish(self.start())


def github(folder: Path, run_id: str, **inputs: str) -> Step:
    """The action's step as GitHub's runner starts it; inputs are named with underscores."""
    action = documents(ACTION)[0]
    given = {name.replace("_", "-"): value for name, value in inputs.items()}
    assert set(given) <= set(action["inputs"])
    values = {name: i.get("default") for name, i in action["inputs"].items()} | given
    (step,) = action["runs"]["steps"]
    script, output, page = folder / "script.sh", folder / "output", folder / "summary"
    script.write_text(step["run"])
    environ = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_ACTION_PATH": str(ACTION.parent),
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(page),
        "GITHUB_RUN_ID": run_id,
        "GITHUB_SHA": "4f2a9c1",
        "GITHUB_REPOSITORY": "org/model",
        "GITHUB_SERVER_URL": "https://github.example",
        **{
            name: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda m: values[m[1]], text)
            for name, text in step["env"].items()
        },
    }
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)]
    return Step(command, _runner(environ), folder, output, page)


def gitlab(folder: Path, pipeline_id: str, key: str, **inputs: str) -> Step:
    """The template's job as a runner with nothing but a plain shell starts it."""
    spec, jobs = documents(TEMPLATE)
    given = {name.replace("_", "-"): value for name, value in inputs.items()}
    assert set(given) <= set(spec["spec"]["inputs"])
    values = {name: i.get("default") for name, i in spec["spec"]["inputs"].items()} | given
    job = jobs[".em-gate"]
    script = folder / "script.sh"
    script.write_text("\n".join(job["script"]))
    environ = {
        "CI_PIPELINE_ID": pipeline_id,
        "CI_COMMIT_SHA": "4f2a9c1",
        "CI_PROJECT_PATH": "group/model",
        "CI_PIPELINE_URL": f"https://gitlab.example/group/model/-/pipelines/{pipeline_id}",
        "GATE_API_KEY": key,
        **{
            name: re.sub(r"\$\[\[ inputs\.([a-z-]+) \]\]", lambda m: values[m[1]], text)
            for name, text in job["variables"].items()
        },
    }
    output, page = (folder / environ[name] for name in ("GATE_DOTENV", "GATE_SUMMARY"))
    return Step(["sh", "-e", str(script)], _runner(environ), folder, output, page)


def analysis(name: str, api_key: str, **args: str) -> str:
    """What one measurement of an Argo AnalysisTemplate ends as: Successful, Failed or Error."""
    (template,) = (d for d in documents(ANALYSIS) if d["metadata"]["name"] == name)
    values = {}
    for argument in template["spec"]["args"]:
        values[argument["name"]] = argument.get("value")
        if "secretKeyRef" in argument.get("valueFrom", {}):
            values[argument["name"]] = api_key
    values |= {name.replace("_", "-"): value for name, value in args.items()}
    assert None not in values.values(), values
    (metric,) = template["spec"]["metrics"]
    web = metric["provider"]["web"]
    headers = {h["key"]: _resolved(h["value"], values) for h in web["headers"]}
    answer = httpx.get(_resolved(web["url"], values), headers=headers, timeout=30)
    if not answer.is_success:
        return "Error"
    found = parse(web["jsonPath"].strip("{}")).find(answer.json())
    if not found:
        return "Error"
    condition = _resolved(metric["successCondition"], values)
    return "Successful" if condition_holds(condition, found[0].value) else "Failed"


def condition_holds(condition: str, result: Any) -> bool:
    """The part of Argo's expressions that the templates use: ``a.b``, ``==``, ``&&``, literals."""
    written = condition.replace("&&", " and ")
    return _value(ast.parse(written, mode="eval").body, result) is True


def _value(node: ast.expr, result: Any) -> Any:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_value(value, result) is True for value in values)
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            return _value(left, result) == _value(right, result)
        case ast.Attribute(value=of, attr=name):
            return _value(of, result)[name]
        case ast.Name(id="result"):
            return result
        case ast.Name(id="true"):
            return True
        case ast.Constant(value=value):
            return value
    raise AssertionError(f"not an expression that is read here: {ast.dump(node)}")


def _resolved(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{\{args\.([a-z-]+)\}\}", lambda m: values[m[1]], text)


def _runner(environ: Mapping[str, str]) -> dict[str, str]:
    """Nothing of this process's environment but where the interpreter is."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "LANG": "C.UTF-8", **environ}


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
