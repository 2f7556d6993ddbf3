"""Notification by a real Celery worker on a real broker, which may both be lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import redis
import yaml
from fakes.gate import until
from fakes.github import APP_ID, GitHub, github_server
from fakes.hooks import ENVIRONMENT, SIGNING_KEY, github_call, payload
from fakes.receiver import Receiver, Reply, receiving
from standardwebhooks.webhooks import Webhook
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.hooks.config import load_hooks
from gate.hooks.outbox import Outbox
from gate.policy import Condition
from gate.settings import Settings
from gate.store.database import open_database
from gate.store.deliveries import DeliveryRecord
from gate.store.submissions import SubmissionRecord
from gate.submission import SubmissionRequest
from gate.verdict import decide
from integration.harness import metric, start_notification_worker
from workers.local_service import LocalService

VERDICT = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.0, 0.1)), DIGESTS
)  # fmt: skip


class Running:
    """Broker and API of a service; the test decides in the place of an engine worker."""

    def __init__(self, local: LocalService, home: Path) -> None:
        self.local = local
        self.home = home
        database = open_database(local.settings.database)
        hooks = load_hooks(local.settings.hooks_file)
        self.submissions = SubmissionRecord(database, Outbox.of(hooks))
        self.deliveries = DeliveryRecord(database)
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> subprocess.Popen[bytes]:
        """A worker of the queue of notifications and of no other."""
        worker = start_notification_worker(self.local.settings, self.home / "notification.log")
        self.workers.append(worker)
        return worker

    def decide_one(self) -> str:
        made = self.submissions.create(SubmissionRequest(checkpoint="/c"), "api")
        assert self.submissions.conclude(made.id, VERDICT)
        return made.id

    def all_delivered(self) -> bool:
        counts = self.deliveries.counts()
        return bool(counts) and all(set(states) == {"delivered"} for states in counts.values())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture
def github() -> Iterator[GitHub]:
    with github_server() as started:
        yield started


@pytest.fixture
def running(
    tmp_path: Path,
    short_tmp: Path,
    receiver: Receiver,
    github: GitHub,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Running]:
    for name, value in {**ENVIRONMENT, "T_KEY": github.private_key}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "root" / "run-17" / "final").mkdir(parents=True)
    root = (tmp_path / "root").resolve()
    content = {
        "allowed_networks": ["127.0.0.0/8"],
        "github_app": {"app_id": APP_ID, "private_key_env": "T_KEY", "api_url": github.url},
        "receive": {
            "github": {
                "secret_env": "T_GITHUB",
                "rules": [
                    {
                        "name": "deploy",
                        "submission": {"checkpoint": f"{root}/run-17/final"},
                        "answer": "deployment-protection-rule",
                    }
                ],
            }
        },
        "send": [
            {
                "name": "bot",
                "url": receiver.url,
                "secret_env": "T_SIGNING",
                "events": ["verdict.created"],
            }
        ],
    }
    path = tmp_path / "hooks.yaml"
    path.write_text(yaml.safe_dump(content))
    settings = Settings(
        home=tmp_path / "home",
        checkpoint_roots=[root],
        hooks_file=path,
        api_port=0,
        notify_seconds=20,
        notify_schedule=[0.2] * 200,
        notify_sweep_seconds=0.2,
    )
    with LocalService(settings, worker=False) as local:
        started = Running(local, tmp_path)
        try:
            yield started
        finally:
            for worker in started.workers:
                worker.kill()
                worker.wait(30)


def test_a_worker_delivers_what_the_record_holds(running: Running, receiver: Receiver) -> None:
    before = running.decide_one()
    running.start_worker()
    until(lambda: len(receiver.requests) == 1)
    after = running.decide_one()
    until(lambda: len(receiver.requests) == 2)
    told = [Webhook(SIGNING_KEY).verify(r.body, r.headers) for r in receiver.requests]
    assert [message["data"]["submission_id"] for message in told] == [before, after]
    until(running.all_delivered)


def test_neither_an_emptied_broker_nor_a_killed_worker_loses_a_message(
    running: Running, receiver: Receiver
) -> None:
    receiver.behave = lambda _request: Reply(503)
    first = running.start_worker()
    for _ in range(5):
        running.decide_one()
    until(lambda: len(receiver.requests) >= 5)
    broker = redis.Redis(unix_socket_path=str(running.local.broker_socket))
    broker.flushall()
    children = psutil.Process(first.pid).children(recursive=True)
    family: list[psutil.Process | subprocess.Popen[bytes]] = [*children, first]
    for process in family:
        process.kill()
    first.wait(30)
    broker.flushall()
    seen = len(receiver.requests)
    receiver.behave = lambda _request: Reply()
    running.start_worker()
    # What the killed one held becomes free with its lease, which is longer than a test may take.
    with open_database(running.local.settings.database).begin() as connection:
        connection.exec_driver_sql("UPDATE deliveries SET lease_expires_at = NULL")
    until(running.all_delivered)
    ids = {request.headers["webhook-id"] for request in receiver.requests[seen:]}
    assert len(ids) == 5
    assert running.deliveries.counts() == {"bot": {"delivered": 5}}


def test_github_is_answered_by_the_worker(running: Running, github: GitHub) -> None:
    running.start_worker()
    content = payload("github_deployment_protection_rule")
    content["deployment_callback_url"] = github.callback()
    call = github_call("deployment_protection_rule", content)
    url = f"{running.local.url}/v1/hooks/github"
    got = httpx.post(url, content=call.body, headers=call.headers, timeout=30)
    assert got.status_code == 202, got.text
    assert httpx.post(url, content=call.body, headers=call.headers, timeout=30).status_code == 200
    assert metric(f"{running.local.url}/metrics", "emgate_hooks_received_total", {}) == 2
    assert running.submissions.conclude(got.json()["submission_id"], VERDICT)
    until(lambda: github.reviews)
    assert [review["state"] for review in github.reviews] == ["approved"]
    assert github.wrong == []
