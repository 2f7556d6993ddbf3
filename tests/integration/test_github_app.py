"""A deployment waits for its verdict, and a check run shows it: with a server in GitHub's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.gate import until
from fakes.github import APP_ID, GitHub, github_server, make_key
from fakes.hooks import ENVIRONMENT, github_call, payload
from fakes.receiver import Reply
from fastapi.testclient import TestClient
from sqlalchemy import text
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.api.app import create_app
from gate.policy import Condition
from gate.settings import Settings
from gate.store.database import open_database
from gate.store.submissions import SubmissionRecord
from gate.submission import State
from gate.verdict import Verdict, decide
from workers.notify.delivering import Notifier, notifier_of


def verdict(lower: float, upper: float) -> Verdict:
    judged = policy(Condition(check="a", at_most=0.2))
    return decide(judged, evidence(measurement("a", lower, upper)), DIGESTS)


PASS, FAIL, OPEN = verdict(0.0, 0.1), verdict(0.3, 0.4), verdict(0.1, 0.3)


class Gate:
    """The API with its record, and a notifier; the broker is not there, and is not needed."""

    def __init__(self, settings: Settings, github: GitHub) -> None:
        self.settings = settings
        self.github = github
        self.api = TestClient(create_app(settings))
        self.database = open_database(settings.database)
        self.submissions = SubmissionRecord(self.database)
        self.notifier: Notifier = notifier_of(settings, self.database)

    def deploy(self) -> str:
        """GitHub asks whether a deployment may go on; the id of the submission."""
        content = payload("github_deployment_protection_rule")
        content["deployment_callback_url"] = self.github.callback()
        return self._called("deployment_protection_rule", content)

    def push(self) -> str:
        """GitHub tells of a check suite; the id of the submission."""
        return self._called("check_suite", payload("github_check_suite"))

    def _called(self, event: str, content: dict[str, Any]) -> str:
        call = github_call(event, content)
        got = self.api.post("/v1/hooks/github", content=call.body, headers=call.headers)
        assert got.status_code == 202, got.text
        submission_id: str = got.json()["submission_id"]
        return submission_id

    def states(self) -> list[str]:
        return [one.state for one in self.notifier.record.listed(10)[::-1]]

    def execute(self, statement: str) -> None:
        with self.database.begin() as connection:
            connection.execute(text(statement))


@pytest.fixture
def github() -> Iterator[GitHub]:
    with github_server() as server:
        yield server


@pytest.fixture
def make_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, github: GitHub
) -> Callable[..., Gate]:
    root = (tmp_path / "root").resolve()
    (root / "run-17" / "final").mkdir(parents=True)
    for name, value in {**ENVIRONMENT, "T_KEY": github.private_key}.items():
        monkeypatch.setenv(name, value)
    content = {
        "public_url": "https://gate.example",
        "allowed_networks": ["127.0.0.0/8"],
        "github_app": {"app_id": APP_ID, "private_key_env": "T_KEY", "api_url": github.url},
        "receive": {
            "github": {
                "secret_env": "T_GITHUB",
                "rules": [
                    {
                        "name": "deploy",
                        "events": ["deployment_protection_rule"],
                        "submission": {"checkpoint": f"{root}/{{deployment.payload.checkpoint}}"},
                        "answer": "deployment-protection-rule",
                    },
                    {
                        "name": "check",
                        "events": ["check_suite.requested"],
                        "submission": {"checkpoint": f"{root}/run-17/final"},
                        "answer": "check-run",
                        "head_sha": "{check_suite.head_sha}",
                    },
                ],
            }
        },
    }
    path = tmp_path / "hooks.yaml"
    path.write_text(yaml.safe_dump(content))

    def make(**changes: Any) -> Gate:
        values = {"notify_seconds": 20, "notify_schedule": [0.01] * 50, **changes}
        settings = Settings(
            home=tmp_path / "home",
            checkpoint_roots=[root],
            hooks_file=path,
            broker_url=f"redis+socket://{tmp_path / 'no-broker'}",
            **values,
        )
        return Gate(settings, github)

    return make


@pytest.fixture
def gate(make_gate: Callable[..., Gate]) -> Gate:
    return make_gate()


@pytest.mark.parametrize(
    ("given", "state"), [(PASS, "approved"), (FAIL, "rejected"), (OPEN, "rejected")]
)
def test_a_deployment_waits_for_the_verdict_and_gets_it(
    gate: Gate, github: GitHub, given: Verdict, state: str
) -> None:
    made = gate.deploy()
    assert gate.notifier.deliver_due() == 0
    assert gate.submissions.conclude(made, given)
    assert gate.notifier.deliver_due() == 1
    (review,) = github.reviews
    assert (review["environment_name"], review["state"]) == ("production", state)
    assert f"https://gate.example/v1/submissions/{made}/report" in review["comment"]
    assert github.wrong == []
    assert gate.states() == ["delivered"]


@pytest.mark.parametrize("end", [State.FAILED, State.CANCELLED])
def test_a_deployment_that_could_not_be_judged_is_rejected(
    gate: Gate, github: GitHub, end: State
) -> None:
    gate.submissions.move(gate.deploy(), end, error="the engine died")
    gate.notifier.deliver_due()
    (review,) = github.reviews
    assert review["state"] == "rejected"
    assert "the engine died" in review["comment"]


def test_a_review_is_tried_until_github_takes_it(gate: Gate, github: GitHub) -> None:
    gate.submissions.conclude(gate.deploy(), PASS)
    github.faults = [Reply(502), Reply(500), Reply(201, b"no JSON"), Reply(201, b"{}")]
    until(lambda: gate.notifier.deliver_due() and github.reviews)
    assert len(github.reviews) == 1
    assert gate.states() == ["delivered"]
    assert gate.notifier.record.listed(1)[0].attempts == 5


def test_a_check_run_is_in_progress_and_then_says_the_verdict(gate: Gate, github: GitHub) -> None:
    made = gate.push()
    assert gate.notifier.deliver_due() == 1
    (run,) = github.check_runs.values()
    assert (run["status"], run["external_id"], run["name"]) == ("in_progress", made, "em-gate")
    assert run["head_sha"] == payload("github_check_suite")["check_suite"]["head_sha"]
    gate.submissions.conclude(made, FAIL)
    assert gate.notifier.deliver_due() == 1
    (run,) = github.check_runs.values()
    assert (run["status"], run["conclusion"]) == ("completed", "failure")
    assert FAIL.reasons[0] in run["output"]["summary"]
    assert run["details_url"] == f"https://gate.example/v1/submissions/{made}/report"
    assert github.wrong == []


def test_a_check_run_whose_sender_was_killed_is_not_created_twice(
    gate: Gate, github: GitHub
) -> None:
    made = gate.push()
    gate.notifier.deliver_due()
    # The sender got through and was killed before it could note so.
    gate.execute(
        "UPDATE deliveries SET state = 'pending', next_attempt_at = created_at, attempts = 1, "
        "payload = json_remove(payload, '$.check_run_id') WHERE state = 'delivered'"
    )
    gate.submissions.conclude(made, PASS)
    assert gate.states() == ["pending"] * 2
    until(lambda: not gate.notifier.deliver_due() and gate.states() == ["delivered"] * 2)
    (run,) = github.check_runs.values()
    assert run["conclusion"] == "success"


def test_the_end_of_a_check_run_waits_for_its_beginning(
    make_gate: Callable[..., Gate], github: GitHub
) -> None:
    gate = make_gate(notify_schedule=[3600.0])
    made = gate.push()
    github.faults = [Reply(503)]
    assert gate.notifier.deliver_due() == 1
    gate.submissions.conclude(made, PASS)
    assert gate.notifier.deliver_due() >= 1
    assert gate.states() == ["pending", "pending"]
    assert github.check_runs == {}
    assert gate.notifier.record.listed(1)[0].attempts == 0


def test_a_check_run_that_was_never_begun_is_created_at_its_end(
    make_gate: Callable[..., Gate], github: GitHub
) -> None:
    gate = make_gate(notify_schedule=[])
    made = gate.push()
    github.faults = [Reply(503)]
    gate.notifier.deliver_due()
    gate.submissions.conclude(made, OPEN)
    gate.notifier.deliver_due()
    assert gate.states() == ["dead", "delivered"]
    (run,) = github.check_runs.values()
    assert (run["status"], run["conclusion"]) == ("completed", "action_required")


def test_another_apps_key_is_refused_by_github_and_told_in_the_log(
    make_gate: Callable[..., Gate], github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = make_gate(notify_schedule=[3600.0])
    monkeypatch.setenv("T_KEY", make_key()[0])
    gate.submissions.conclude(gate.deploy(), PASS)
    gate.notifier.deliver_due()
    (one,) = gate.notifier.record.listed(1)
    assert (one.state, one.last_status) == ("pending", 401)
    assert "the installation token: GitHub answered 401" in str(one.last_error)
    assert github.reviews == []


def test_a_key_that_is_none_is_told_by_its_variable_and_not_shown(
    make_gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = make_gate(notify_schedule=[3600.0])
    monkeypatch.setenv("T_KEY", "not-a-key")
    gate.submissions.conclude(gate.deploy(), PASS)
    gate.notifier.deliver_due()
    (one,) = gate.notifier.record.listed(1)
    assert "T_KEY holds no RSA private key" in str(one.last_error)
    assert "not-a-key" not in str(one.last_error)


def test_a_callback_that_no_longer_fits_the_configuration_is_not_called(
    make_gate: Callable[..., Gate], github: GitHub
) -> None:
    gate = make_gate(notify_schedule=[3600.0])
    gate.submissions.conclude(gate.deploy(), PASS)
    gate.execute(
        "UPDATE deliveries SET payload = json_set(payload, '$.callback_url', "
        "'http://127.0.0.1:1/repos/acme/support-model/actions/runs/1/deployment_protection_rule')"
    )
    gate.notifier.deliver_due()
    assert github.receiver.requests == []
    assert "does not lead to" in str(gate.notifier.record.listed(1)[0].last_error)
