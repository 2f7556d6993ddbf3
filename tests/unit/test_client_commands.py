"""The commands that talk to the API: exit codes, output and errors; the API is a fake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from fakes.fake_api import ID, FakeApi, problem, view
from typer.testing import CliRunner
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.cli import submissions
from gate.cli.ending import exit_code
from gate.cli.submit import submit
from gate.policy import Condition
from gate.verdict import decide

HERE = f"/v1/submissions/{ID}"
app = typer.Typer()
app.command("submit")(submit)
for name in ("status", "cancel", "retry", "verdict", "samples"):
    app.command(name)(getattr(submissions, name))
app.command("list")(submissions.list_)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi()
    real = httpx.Client
    monkeypatch.setattr(
        httpx, "Client", lambda **options: real(**options, transport=httpx.MockTransport(fake))
    )
    monkeypatch.setenv("GATE_API_KEY", "emg_1_secret")
    return fake


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def decided(api: FakeApi, value: float) -> None:
    verdict = decide(
        policy(Condition(check="a", at_most=0.5)),
        evidence(measurement("a", value - 0.1, value + 0.1)),
        DIGESTS,
    ).model_dump(mode="json")
    ended = view("decided", outcome=verdict["outcome"])
    api.on("POST /v1/submissions", httpx.Response(202, json=view()))
    api.on(f"GET {HERE}", httpx.Response(200, json=ended))
    api.on(f"GET {HERE}/verdict", httpx.Response(200, json=verdict))
    api.on(f"GET {HERE}/verdict.junit.xml", httpx.Response(200, text="<testsuites/>"))
    api.on(f"GET {HERE}/report", httpx.Response(200, text="<html>"))


@pytest.mark.parametrize(("value", "code"), [(0.2, 0), (0.8, 1), (0.5, 3)])
def test_waiting_ends_with_the_exit_code_of_the_verdict(
    api: FakeApi, tmp_path: Path, value: float, code: int
) -> None:
    decided(api, value)
    junit, report = tmp_path / "j.xml", tmp_path / "r.html"
    options = ("--wait", "--junit", str(junit), "--report", str(report))
    done = run("submit", "/checkpoints/tuned", *options)
    assert done.exit_code == code, done.output
    assert "\x1b" not in done.stdout
    assert junit.read_text() == "<testsuites/>"
    assert report.read_text() == "<html>"


def test_without_waiting_only_the_id_is_printed(api: FakeApi) -> None:
    decided(api, 0.2)
    done = run(
        "submit", "hf://org/x@main", "--metadata", "git_sha=4f=2", "--context", "[l] {question}"
    )
    assert (done.exit_code, done.stdout) == (0, f"{ID}\n")
    sent = json.loads(api.requests[0].content)
    assert sent["checkpoint"] == "hf://org/x@main"
    assert sent["metadata"] == {"git_sha": "4f=2"}
    assert sent["contexts"] == [{"label": "[l] {question}", "template": "[l] {question}"}]


def test_json_stands_alone_on_stdout(api: FakeApi) -> None:
    decided(api, 0.2)
    done = run("submit", "/x", "--wait", "--json")
    content = json.loads(done.stdout)
    assert content["submission"]["id"] == ID
    assert content["verdict"]["outcome"] == "pass"
    assert done.stderr == ""


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_submission_without_a_verdict_is_never_a_pass(api: FakeApi, state: str) -> None:
    decided(api, 0.2)
    api.on(f"GET {HERE}", httpx.Response(200, json=view(state, error="no chip")))
    done = run("submit", "/x", "--wait")
    assert done.exit_code == 4
    assert "no chip" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("submit", "/x", "--metadata", "novalue"), "KEY=VALUE"),
        (("submit", "/x", "--junit", "/tmp/j.xml"), "go with --wait"),
        (("submit", "/x", "--wait", "--junit", "/no/such/j.xml"), "cannot be written"),
        (("submit", "/x", "--training-sample", "/no/such"), "cannot be read"),
        (("submit", "/no/such", "--upload"), "is not a directory"),
        (("status", "../keys"), "not the id"),
        (("list", "--metadata", "x"), "KEY=VALUE"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_sent(
    api: FakeApi, arguments: tuple[str, ...], says: str
) -> None:
    done = run(*arguments)
    assert (done.exit_code, says in done.stderr, api.requests) == (2, True, [])


def test_a_refusal_is_usage_and_json_on_stderr(api: FakeApi) -> None:
    api.on("POST /v1/submissions", problem(403, "not under a root"))
    done = run("submit", "/x", "--json")
    error = json.loads(done.stderr)["error"]
    assert done.exit_code == 2
    assert error == {
        "kind": "refused",
        "message": "not under a root",
        "status": 403,
        "exit_code": 2,
    }
    assert "emg_1_secret" not in done.output


def test_a_verdict_that_is_not_there_yet_is_wrong_usage(api: FakeApi) -> None:
    api.on(f"GET {HERE}", httpx.Response(200, json=view("sampling")))
    assert run("verdict", ID).exit_code == 2


@pytest.mark.parametrize(
    ("verdict", "accept", "code"),
    [
        ({"outcome": "fail", "waivers": [{}], "released": True}, True, 0),
        ({"outcome": "fail", "waivers": [{}], "released": True}, False, 1),
        ({"outcome": "fail", "waivers": [], "released": True}, True, 1),
        ({"outcome": "fail", "waivers": [{}], "released": "yes"}, True, 1),
        ({"outcome": "splendid"}, False, 4),
        ({}, True, 4),
    ],
)
def test_only_an_active_waiver_that_is_asked_for_changes_the_exit_code(
    verdict: dict[str, Any], accept: bool, code: int
) -> None:
    assert exit_code(verdict, accept) == code


def test_tables_show_ids_whole_and_what_a_model_said_cannot_move_the_cursor(api: FakeApi) -> None:
    sample = {
        "check": "free-form",
        "label": "misaligned",
        "prompt_id": "q1",
        "text": "[red]\x1b[2J",
    }
    page = {"items": [sample], "next_cursor": None}
    api.on(f"GET {HERE}/samples", httpx.Response(200, json=page))
    api.on("GET /v1/submissions", httpx.Response(200, json={"items": [view()], "total": 1}))
    shown = run("samples", ID, "--label", "misaligned", "--role", "candidate").stdout
    assert "[red]" in shown
    assert "q1" in shown
    assert "\x1b" not in shown
    assert ID in run("list").stdout


def test_an_interrupted_submit_is_no_fail_and_can_be_taken_up_by_its_key(api: FakeApi) -> None:
    api.on("POST /v1/submissions", KeyboardInterrupt())
    done = run("submit", "/checkpoints/tuned", "--idempotency-key", "pipeline-17")
    assert done.exit_code == 4
    assert "--idempotency-key pipeline-17 finds it" in done.stderr


def test_any_other_interrupted_command_is_no_fail(api: FakeApi) -> None:
    api.on(f"GET {HERE}", KeyboardInterrupt())
    assert run("verdict", ID).exit_code == 4


def test_a_verdict_of_another_submission_is_said_to_be_one(api: FakeApi) -> None:
    decided(api, 0.2)
    standing = view("decided", outcome="pass", standing_since="0198c000")
    api.on(f"GET {HERE}", httpx.Response(200, json=standing))
    assert "the verdict is that of submission 0198c000" in run("verdict", ID).stdout
    assert "0198c000" in run("status", ID).stdout
