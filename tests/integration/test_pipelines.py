"""The files of deploy/ci against a live gate: what a job prints, writes and ends with.

GitHub, GitLab and Argo are stood in for by runners.py; MLflow's registry is the real one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import junitparser
import pytest
from documented import documented, renamed
from fakes.gate import until
from pipeline_files import CI, STEP, module_of
from pydantic import SecretStr

from gate.access.scopes import Scope
from gate.client.api import GateClient
from gate.client.settings import ClientSettings
from gate.store.database import open_database
from gate.store.keys import KeyStore
from integration.harness import Service
from integration.runners import Ran, Step, analysis, github, gitlab

OUTCOMES = [("passes", 0, "pass"), ("fails", 1, "fail"), ("leaves-open", 3, "inconclusive")]
NO_KEY = f"emg_{'0' * 12}_{'0' * 64}"


@dataclass(frozen=True)
class Pipelines:
    """A gate with a pipeline's key and a safety lead's, and jobs that ask it."""

    service: Service
    key: str
    admin: httpx.Client
    checkpoint: Path
    base: Path

    @property
    def url(self) -> str:
        return self.service.local.url

    def github(self, folder: Path, run_id: str, policy: str = "passes", **more: str) -> Step:
        return github(folder, run_id, **{**self._inputs(policy), "key": self.key, **more})

    def gitlab(self, folder: Path, pipeline_id: str, policy: str = "passes", **more: str) -> Step:
        return gitlab(folder, pipeline_id, self.key, **{**self._inputs(policy), **more})

    def _inputs(self, policy: str) -> dict[str, str]:
        paths = {"checkpoint": str(self.checkpoint), "base": str(self.base)}
        return {"url": self.url, "policy": policy, **paths}

    def waive(self, submission: str) -> None:
        body = {
            "reason": "known excess, pilot only",
            "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        }
        place = f"/v1/submissions/{submission}/waivers"
        self.admin.post(place, json=body).raise_for_status()

    def verdict(self, submission: str) -> Any:
        place = f"/v1/submissions/{submission}/verdict"
        return self.admin.get(place).raise_for_status().json()


@pytest.fixture(scope="module")
def pipelines(service: Service, tiny_base: Path, tiny_adapter: Path) -> Iterator[Pipelines]:
    keys = KeyStore(open_database(service.settings.database))
    _, ci = keys.create("ci", [Scope.SUBMIT, Scope.READ], None, "test")
    _, lead = keys.create("lead", [Scope.ADMIN], None, "test")
    headers = {"Authorization": f"Bearer {lead.text}"}
    with httpx.Client(base_url=service.local.url, headers=headers, timeout=30) as admin:
        yield Pipelines(service, ci.text, admin, tiny_adapter, tiny_base)


@pytest.mark.parametrize(("policy", "code", "outcome"), OUTCOMES)
def test_the_action_ends_as_the_verdict_says_and_shows_why(
    pipelines: Pipelines, tmp_path: Path, policy: str, code: int, outcome: str
) -> None:
    junit = tmp_path / "out" / "gate.xml"
    ran = pipelines.github(tmp_path, "1", policy, junit=str(junit)).run()
    assert ran.code == code, ran.log
    submission = ran.outputs["submission"]
    verdict = pipelines.verdict(submission)
    assert ran.outputs == {
        "submission": submission,
        "outcome": outcome,
        "release": "allow" if outcome == "pass" else "block",
        "released": "true" if outcome == "pass" else "false",
        "report-url": f"{pipelines.url}/v1/submissions/{submission}/report",
        "checkpoint-digest": verdict["digests"]["checkpoint"],
    }
    assert f"### em-gate: {outcome.upper()}\n" in ran.summary
    for finding in verdict["findings"]:
        assert f"| {finding['condition']['check']} |" in ran.summary
    annotations = [line for line in ran.log.splitlines() if line.startswith("::")]
    if outcome == "pass":
        assert annotations == [f"::notice title=em-gate%3A PASS::under {verdict['policy']}"]
    else:
        title = f"::error title=em-gate%3A {outcome.upper()}::"
        assert annotations == [title + r.replace("%", "%25") for r in verdict["reasons"]]
    suites = junitparser.JUnitXml.fromfile(str(junit))
    assert (suites.failures, suites.errors) == (outcome == "fail", outcome == "inconclusive")
    assert pipelines.key not in ran.everything
    if outcome == "fail":
        names = {pipelines.checkpoint: "/checkpoints/tuned", tmp_path: "/runner"}
        shown = renamed(ran.log, names)
        # Which states are seen depends on when it looks.
        in_docs, now = documented("pipelines.md", "text", shown, r"em-gate: [a-z]+$")
        assert in_docs == now


@pytest.mark.parametrize(("policy", "code", "outcome"), OUTCOMES)
def test_the_template_ends_as_the_verdict_says_and_leaves_artifacts(
    pipelines: Pipelines, tmp_path: Path, policy: str, code: int, outcome: str
) -> None:
    ran = pipelines.gitlab(tmp_path, "1", policy, metadata="model=support\nversion=7").run()
    assert ran.code == code, ran.log
    submission = ran.outputs["GATE_SUBMISSION"]
    assert ran.outputs["GATE_OUTCOME"] == outcome
    assert ran.outputs["GATE_RELEASED"] == ("true" if code == 0 else "false")
    assert f"em-gate: {outcome.upper()}: submission {submission} under {policy} v1" in ran.log
    assert f"### em-gate: {outcome.upper()}\n" in ran.summary
    assert "<html" in (tmp_path / "gate.html").read_text(encoding="utf-8")
    assert len(junitparser.JUnitXml.fromfile(str(tmp_path / "gate.xml"))) == 1
    place = f"/v1/submissions/{submission}"
    assert pipelines.admin.get(place).json()["metadata"] == {
        "git_sha": "4f2a9c1",
        "repository": "group/model",
        "pipeline_url": "https://gitlab.example/group/model/-/pipelines/1",
        "model": "support",
        "version": "7",
    }
    assert pipelines.key not in ran.everything


def test_it_needs_nothing_but_python() -> None:
    alone = [sys.executable, "-I", "-S", str(STEP)]
    done = subprocess.run(alone, capture_output=True, text=True, check=False, env={}, timeout=60)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == (
        "em-gate: GATE_URL has to be the http or https address of the gate, without a user\n"
    )


@pytest.mark.parametrize(
    ("inputs", "code", "says"),
    [
        ({"url": "http://127.0.0.1:1"}, 4, "no gate answers at http://127.0.0.1:1"),
        ({"key": NO_KEY}, 2, "set GATE_API_KEY to a key of this gate"),
        ({"url": "http://127.0.0.1:port"}, 2, "GATE_URL or GATE_API_KEY is not usable"),
        ({"key": "no\nkey"}, 2, "GATE_URL or GATE_API_KEY is not usable"),
        ({"checkpoint": "/etc"}, 2, "not under a checkpoint root"),
        ({"policy": "nope"}, 2, "unknown policy 'nope'"),
        ({"checkpoint": '"; touch run #', "base": "$(touch run)"}, 2, "touch run"),
    ],
)
def test_a_job_without_a_verdict_says_why_and_never_goes_on(
    pipelines: Pipelines, tmp_path: Path, inputs: dict[str, str], code: int, says: str
) -> None:
    ran = pipelines.github(tmp_path, "2", **inputs).run()
    assert ran.code == code
    assert says in ran.log
    assert ran.log.splitlines()[-1].startswith("::error title=em-gate%3A no verdict::")
    assert ran.summary.startswith("### em-gate: no verdict\n")
    assert ran.outputs == {"outcome": "none", "release": "block", "released": "false"}
    assert not (tmp_path / "run").exists()
    assert NO_KEY not in ran.everything
    assert "Traceback" not in ran.log


def test_a_job_that_is_run_again_takes_up_its_submission_and_replaces_a_cancelled_one(
    pipelines: Pipelines, tmp_path: Path
) -> None:
    def attempt(name: str, **more: str) -> Step:
        return pipelines.github(_folder(tmp_path, name), "3", fresh="true", **more)

    pipelines.service.engines.set_fault("hold")
    impatient = attempt("1", timeout="0.5").run()
    submission = impatient.outputs["submission"]
    assert impatient.code == 4
    assert f"submission {submission} had not ended after 0.5 s; it goes on" in impatient.log

    step = attempt("2")
    process = step.start()
    assert process.stdout
    said = process.stdout.readline() + process.stdout.readline()
    process.send_signal(signal.SIGINT)
    stopped = step.finish(process, said)
    pipelines.service.engines.clear_fault()
    assert stopped.code == 4
    assert f"taking up submission {submission}" in stopped.log
    assert f"interrupted; submission {submission} is cancelled" in stopped.log
    place = f"/v1/submissions/{submission}"
    assert pipelines.admin.get(place).json()["state"] == "cancelled"

    ran = attempt("3").run()
    assert ran.code == 0, ran.log
    assert f"submission {submission} was cancelled; submitting once more" in ran.log
    assert ran.outputs["submission"] != submission

    # What has a verdict is not asked for again, however often the job is run.
    last = attempt("4").run()
    assert last.outputs == ran.outputs
    assert f"taking up submission {ran.outputs['submission']}" in last.log


def test_a_directory_of_the_runner_is_sent_along(pipelines: Pipelines, tmp_path: Path) -> None:
    ran = pipelines.github(tmp_path, "5", upload="true").run()
    assert ran.code == 0, ran.log
    assert "of upload://sha256:" in ran.log


def test_a_waiver_lets_a_job_go_on_only_where_it_is_told_to_honour_one(
    pipelines: Pipelines, tmp_path: Path
) -> None:
    blocked = pipelines.github(_folder(tmp_path, "1"), "6", "fails").run()
    submission = blocked.outputs["submission"]
    pipelines.waive(submission)
    again = pipelines.github(_folder(tmp_path, "2"), "6", "fails").run()
    waived = pipelines.github(_folder(tmp_path, "3"), "6", "fails", accept_waiver="true").run()
    assert (blocked.code, again.code, waived.code) == (1, 1, 0)
    assert waived.outputs["submission"] == submission
    assert (waived.outputs["outcome"], waived.outputs["released"]) == ("fail", "true")
    assert "### em-gate: FAIL, released all the same" in waived.summary
    assert "::warning title=em-gate%3A FAIL%2C released all the same::" in waived.log
    assert "known excess, pilot only" in waived.summary


def test_a_rollout_goes_on_only_for_a_verdict_by_the_named_policy_base_and_battery(
    pipelines: Pipelines, tmp_path: Path
) -> None:
    passed = _digests(pipelines, pipelines.github(_folder(tmp_path, "1"), "7").run())
    failed = _digests(pipelines, pipelines.github(_folder(tmp_path, "2"), "7", "fails").run())
    named = {"gate_url": pipelines.url, "policy": "passes"}
    named |= {part: passed[part] for part in ("checkpoint", "base", "battery")}

    def measured(key: str = pipelines.key, **other: str) -> str:
        return analysis("em-gate-verdict", key, **{**named, **other})

    assert measured() == "Successful"
    # The newest verdict on this content is a fail, but by another policy; by that one it counts.
    assert measured(policy="fails", battery=failed["battery"]) == "Failed"
    assert measured(policy_version="2") == "Error"
    for part in ("checkpoint", "base", "battery"):
        assert measured(**{part: f"sha256:{'0' * 64}"}) == "Error"
    assert measured(key=NO_KEY) == "Error"


def test_a_rollout_by_submission_stops_without_release_and_for_other_content(
    pipelines: Pipelines, tmp_path: Path
) -> None:
    blocked = pipelines.github(tmp_path, "8", "fails").run()
    submission, digest = blocked.outputs["submission"], blocked.outputs["checkpoint-digest"]

    def measured(key: str = pipelines.key, content: str = digest, of: str = submission) -> str:
        args = {"gate_url": pipelines.url, "checkpoint": content, "submission": of}
        return analysis("em-gate-release", key, **args)

    assert measured() == "Failed"
    pipelines.waive(submission)
    assert measured() == "Successful"
    assert measured(content=f"sha256:{'0' * 64}") == "Failed"
    assert measured(of="sub_unknown") == "Error"
    assert measured(key=NO_KEY) == "Error"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real registry of MLflow in a SQLite file."""
    mlflow = pytest.importorskip("mlflow")
    store = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'registry.db'}"
    return mlflow.MlflowClient(tracking_uri=store, registry_uri=store)


@pytest.fixture
def hook(pipelines: Pipelines, registry: Any) -> Iterator[Callable[..., Any]]:
    """Makes hooks of this gate and registry."""
    script = module_of(CI / "mlflow" / "registry_hook.py")
    settings = ClientSettings(url=pipelines.url, api_key=SecretStr(pipelines.key))
    with GateClient(settings) as gate:

        def make(**wanted: Any) -> Any:
            defaults = {"base": str(pipelines.base), "policy": "passes"}
            return script.Hook(registry, gate, script.Wanted(**{**defaults, **wanted}))

        yield make


def test_a_candidate_of_the_registry_is_released_by_a_pass_and_called_back_by_a_fail(
    pipelines: Pipelines, registry: Any, hook: Callable[..., Any]
) -> None:
    registry.create_registered_model("support")
    source = pipelines.checkpoint.as_uri()
    first = registry.create_model_version("support", source, tags={"team": "help"}).version
    registry.create_model_version("support", source)
    registry.set_registered_model_alias("support", "candidate", first)
    registry.create_registered_model("elsewhere")
    outside = registry.create_model_version("elsewhere", "file:///outside").version
    registry.set_registered_model_alias("elsewhere", "candidate", outside)

    def tags(name: str = "support", version: Any = first) -> dict[str, str]:
        return dict(registry.get_model_version(name, version).tags)

    def released() -> Any:
        return registry.get_registered_model("support").aliases.get("released")

    hook().look()
    submission = tags()["emgate.submission"]
    assert pipelines.admin.get(f"/v1/submissions/{submission}").json()["metadata"] == {
        "model": "support",
        "version": str(first),
    }
    # Refused by the gate: said there, and no obstacle to the others.
    assert tags("elsewhere", outside)["emgate.state"] == "refused"
    assert "not under a checkpoint root" in tags("elsewhere", outside)["emgate.error"]

    _judged(pipelines, submission)
    hook().look()
    verdict = pipelines.verdict(submission)
    told = tags()
    assert told["team"] == "help"
    assert (told["emgate.outcome"], told["emgate.released"]) == ("pass", "true")
    assert told["emgate.digest"] == verdict["digests"]["checkpoint"]
    assert str(released()) == str(first)

    # Looking again, also by a second hook, submits nothing and writes nothing.
    hook().look()
    assert tags() == told

    # Another policy is another question; the alias stays until it is answered.
    hook(policy="fails").look()
    blocked = tags()["emgate.submission"]
    assert blocked != submission
    assert str(released()) == str(first)
    _judged(pipelines, blocked)
    hook(policy="fails").look()
    assert (tags()["emgate.outcome"], tags()["emgate.released"]) == ("fail", "false")
    assert released() is None

    pipelines.waive(blocked)
    hook(policy="fails").look()
    assert released() is None
    hook(policy="fails", accept_waiver=True).look()
    assert str(released()) == str(first)


def test_what_a_killed_hook_had_submitted_is_found_and_asked_for_anew_only_when_told(
    pipelines: Pipelines, registry: Any, hook: Callable[..., Any]
) -> None:
    registry.create_registered_model("killed")
    version = registry.create_model_version("killed", str(pipelines.checkpoint)).version
    registry.set_registered_model_alias("killed", "candidate", version)

    def submission() -> str:
        return str(registry.get_model_version("killed", version).tags["emgate.submission"])

    hook().look()
    made = submission()
    for tag in ("emgate.submission", "emgate.request", "emgate.state"):
        registry.delete_model_version_tag("killed", version, tag)
    hook().look()
    assert submission() == made
    registry.set_model_version_tag("killed", version, "emgate.again", "1")
    hook().look()
    assert submission() != made


def test_files_are_sent_only_from_under_the_root_that_the_operator_named(
    pipelines: Pipelines, registry: Any, hook: Callable[..., Any]
) -> None:
    registry.create_registered_model("sent")
    within = pipelines.checkpoint.as_uri()
    version = registry.create_model_version("sent", f"{within}/../{pipelines.checkpoint.name}")
    registry.set_registered_model_alias("sent", "candidate", version.version)

    def tags() -> dict[str, str]:
        return dict(registry.get_model_version("sent", version.version).tags)

    for root in ("", str(pipelines.base)):
        hook(upload=True, local_root=root).look()
        assert tags()["emgate.state"] == "refused"
        assert "is not under --local-root" in tags()["emgate.error"]
    hook(upload=True, local_root=str(pipelines.checkpoint.parent)).look()
    assert "emgate.error" not in tags()
    place = f"/v1/submissions/{tags()['emgate.submission']}"
    assert pipelines.admin.get(place).json()["checkpoint"].startswith("upload://sha256:")


def _folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


def _digests(pipelines: Pipelines, ran: Ran) -> dict[str, str]:
    digests: dict[str, str] = pipelines.verdict(ran.outputs["submission"])["digests"]
    return digests


def _judged(pipelines: Pipelines, submission: str) -> None:
    place = f"/v1/submissions/{submission}"
    until(lambda: pipelines.admin.get(place).json()["state"] == "decided", 120)
