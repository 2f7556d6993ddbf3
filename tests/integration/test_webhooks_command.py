"""``emgate webhooks``: endpoints, the delivery log, dead letters, a test message."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.hooks import SIGNING_KEY, SIGNING_SECRET
from fakes.receiver import Receiver, Reply, receiving
from standardwebhooks.webhooks import Webhook
from typer.testing import CliRunner, Result
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.hooks.config import load_hooks
from gate.hooks.outbox import Outbox
from gate.policy import Condition
from gate.settings import settings
from gate.store.database import open_database
from gate.store.submissions import SubmissionRecord
from gate.submission import SubmissionRequest
from gate.verdict import decide
from workers.cli.webhooks import webhooks
from workers.notify.delivering import notifier_of

VERDICT = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.0, 0.1)), DIGESTS
)  # fmt: skip
Run = Callable[..., Result]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture
def run(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    content = {
        "allowed_networks": ["127.0.0.0/8"],
        "send": [{"name": "bot", "url": receiver.url, "secret_env": "T_SIGNING"}],
    }
    path = tmp_path / "hooks.yaml"
    path.write_text(yaml.safe_dump(content))
    for name, value in {
        "GATE_HOME": str(tmp_path / "home"),
        "GATE_HOOKS_FILE": str(path),
        "GATE_NOTIFY_SCHEDULE": "[]",
        "T_SIGNING": SIGNING_SECRET,
        "COLUMNS": "300",
    }.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield lambda *arguments: CliRunner().invoke(webhooks, list(arguments))
    settings.cache_clear()


def deliver() -> None:
    """Decide a submission and make one attempt at telling of it."""
    database = open_database(settings().database)
    outbox = Outbox.of(load_hooks(settings().hooks_file))
    record = SubmissionRecord(database, outbox)
    assert record.conclude(record.create(SubmissionRequest(checkpoint="/c"), "api").id, VERDICT)
    notifier_of(settings(), database).deliver_due()


def shown(run: Run, *arguments: str) -> Any:
    got = run(*arguments, "--json")
    assert got.exit_code == 0, got.output
    return json.loads(got.stdout)


def test_endpoints_are_listed_with_their_deliveries(run: Run, receiver: Receiver) -> None:
    deliver()
    (endpoint,) = shown(run, "list")["endpoints"]
    assert (endpoint["name"], endpoint["url"]) == ("bot", receiver.url)
    assert endpoint["events"] == ["verdict.created", "submission.failed", "submission.cancelled"]
    assert endpoint["deliveries"] == {"delivered": 1}
    table = run("list").stdout
    assert "bot" in table
    assert SIGNING_SECRET not in table


def test_dead_letters_are_listed_and_sent_again(run: Run, receiver: Receiver) -> None:
    receiver.behave = lambda _request: Reply(500, b"\x1b[31mbroken")
    deliver()
    (dead,) = shown(run, "deliveries", "--state", "dead")["deliveries"]
    assert (dead["target"], dead["attempts"], dead["last_status"]) == ("bot", 1, 500)
    assert "\x1b" not in run("deliveries").stdout
    assert shown(run, "resend", "--dead", "--target", "other") == {"resent": []}
    assert shown(run, "resend", "--dead") == {"resent": [dead["id"]]}
    assert shown(run, "deliveries", "--state", "dead")["deliveries"] == []
    receiver.behave = lambda _request: Reply()
    notifier_of(settings(), open_database(settings().database)).deliver_due()
    assert len(set(receiver.header("webhook-id"))) == 1
    (sent,) = shown(run, "deliveries", "--target", "bot")["deliveries"]
    assert sent["state"] == "delivered"


def test_a_delivery_that_is_not_there_cannot_be_sent_again(run: Run) -> None:
    got = run("resend", "4711")
    assert got.exit_code == 2
    assert "4711" in got.stderr


@pytest.mark.parametrize("arguments", [(), ("1", "--dead"), ("1", "--target", "bot")])
def test_what_to_send_again_must_be_said_in_one_way(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("resend", *arguments).exit_code == 2


def test_a_test_message_is_signed_and_leaves_no_record(run: Run, receiver: Receiver) -> None:
    assert shown(run, "test", "bot")["result"] == "delivered"
    (request,) = receiver.requests
    message = Webhook(SIGNING_KEY).verify(request.body, request.headers)
    assert (message["type"], message["data"]) == ("webhook.test", {"endpoint": "bot"})
    assert shown(run, "deliveries")["deliveries"] == []


def test_a_test_message_that_is_not_taken_is_an_error(run: Run, receiver: Receiver) -> None:
    receiver.behave = lambda _request: Reply(503, b"busy")
    got = run("test", "bot")
    assert (got.exit_code, len(receiver.requests)) == (4, 1)
    assert "answered 503: busy" in got.stderr


def test_a_test_message_to_nobody_is_wrong_usage(run: Run) -> None:
    assert run("test", "nobody").exit_code == 2


def test_a_secret_that_is_not_set_is_wrong_usage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("T_SIGNING")
    got = run("test", "bot")
    assert got.exit_code == 2
    assert "T_SIGNING" in got.stderr


def test_a_hooks_file_that_cannot_be_used_is_told_in_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "hooks.yaml").write_text("send: [{name: x}]")
    got = run("list")
    assert got.exit_code == 2
    assert "send.0.url" in got.stderr
    assert len(got.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_api_and_worker_do_not_start_with_a_hooks_file_that_cannot_be_used(
    run: Run, tmp_path: Path, command: str
) -> None:
    (tmp_path / "hooks.yaml").write_text("send: [{name: x}]")
    got = subprocess.run(
        [sys.executable, "-m", "gate", command],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert got.returncode == 2
    assert got.stderr.strip().splitlines() == [
        f"emgate: {tmp_path / 'hooks.yaml'}: send.0.url: Field required"
    ]


def test_the_api_does_not_start_without_the_secret_of_a_sender(run: Run, tmp_path: Path) -> None:
    rule = {"name": "all", "submission": {"checkpoint": "{checkpoint}"}}
    content = {"receive": {"gitlab": {"secret_env": "T_NOT_SET", "rules": [rule]}}}
    (tmp_path / "hooks.yaml").write_text(yaml.safe_dump(content))
    got = subprocess.run(
        [sys.executable, "-m", "gate", "serve"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert got.returncode == 2
    assert "receive.gitlab" in got.stderr
    assert "T_NOT_SET" in got.stderr


def test_a_notifier_says_which_secrets_it_lacks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = notifier_of(settings(), open_database(settings().database))
    assert notifier.problems() == []
    monkeypatch.delenv("T_SIGNING")
    (problem,) = notifier.problems()
    assert "endpoint bot" in problem
    assert "T_SIGNING" in problem
