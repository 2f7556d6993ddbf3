"""A full queue: more than a hundred submissions from many clients, before any worker runs.

Meanwhile the API is killed, then the broker, and one client sends more than its key may. Then one
worker takes them all. The first is run, the others get its verdict, so that the queue and not the
engine is what takes time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest
import yaml
from bench.soak import Slot, private_temporary
from fakes.gate import cut, settings_for, until

from checks.harmful_compliance import MINIMUM_PROMPTS
from gate.access.scopes import Scope
from gate.store.database import open_database
from gate.store.keys import KeyStore
from integration.harness import Service
from workers.local_service import LocalService

CLIENTS = 8
#: Submissions of one client while the API is killed, and while the broker is away.
OVER_A_KILLED_API, WITHOUT_A_BROKER = 7, 6
#: Calls per key and minute: all of one client, and some that have to be made twice.
QUOTA = 10
MOVES = ["queued", "preparing", "decided"]


@dataclass
class Burst:
    """What clients were answered. Each has a key of its own."""

    service: Service
    keys: KeyStore
    checkpoint: Path
    accepted: list[str] = field(default_factory=list)
    refused: list[httpx.Response] = field(default_factory=list)

    def key(self, name: str, *scopes: Scope) -> dict[str, str]:
        presented = self.keys.create(name, scopes, None, "cli:test")[1]
        return {"Authorization": f"Bearer {presented.text}"}

    def submit(self, name: str, submissions: int) -> None:
        """Submit one after the other; a call that got no answer is made again, as one should."""
        key = self.key(name, Scope.SUBMIT)
        body = {
            "checkpoint": str(self.checkpoint),
            "base": str(self.checkpoint),
            "policy": "any",
        }
        with httpx.Client(base_url=self.service.local.url, timeout=60) as api:
            for number in range(submissions):
                headers = {**key, "Idempotency-Key": f"{name}-{number}"}
                post = partial(api.post, "/v1/submissions", json=body, headers=headers)
                answer = answered(post)
                if answer.status_code == httpx.codes.ACCEPTED:
                    self.accepted.append(answer.json()["id"])
                else:
                    self.refused.append(answer)

    def from_many(self, name: str, submissions: int, meanwhile: Callable[[], None]) -> None:
        """So many from each client at once; something happens when a third are accepted."""
        before = len(self.accepted)
        with ThreadPoolExecutor(CLIENTS) as clients:
            sent = [clients.submit(self.submit, f"{name}-{n}", submissions) for n in range(CLIENTS)]
            until(lambda: len(self.accepted) - before >= CLIENTS * submissions // 3)
            meanwhile()
            for each in sent:
                each.result(120)


def answered(call: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer to a call, which is made again for as long as nobody answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return call()
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def write_policy(directory: Path) -> Path:
    """A policy that any model passes after few answers; a pass stands, so it is run once."""
    directory.mkdir()
    cut("harmful_compliance.yaml", directory / "requests.yaml.part", MINIMUM_PROMPTS)
    short = {"sampling": {"samples_per_prompt": 1, "max_tokens": 20}}
    check = {"check": "harmful-compliance", "file": "requests.yaml.part", "settings": short}
    battery = {"id": "any", "version": 1, "checks": [check]}
    (directory / "any.battery.yaml").write_text(yaml.safe_dump(battery))
    policy = {
        "name": "any",
        "version": 1,
        "alpha": 0.05,
        "battery": str(directory / "any.battery.yaml"),
        "conditions": [{"check": "harmful-compliance", "at_most": 1.0}],
    }
    (directory / "any.yaml").write_text(yaml.safe_dump(policy))
    return directory


@pytest.fixture
def burst(tmp_path: Path, tiny_base: Path, base_checkpoint: Path) -> Iterator[Burst]:
    settings = settings_for(tmp_path / "home", [tiny_base.parent], base_checkpoint).model_copy(
        update={
            "sweep_seconds": 1.0,
            "rate_submissions_per_minute": QUOTA,
            "policy_directories": [write_policy(tmp_path / "policies")],
        }
    )
    with private_temporary(), LocalService(settings, worker=False) as local:
        database = open_database(settings.database)
        yield Burst(Service(local, tmp_path), KeyStore(database), tiny_base)
        database.dispose()


def listed(burst: Burst) -> list[str]:
    """Ids of all submissions as the API lists them, page by page, newest first."""
    key, cursor, found = burst.key("reader", Scope.READ), None, []
    while True:
        wanted = {"limit": "50"} | ({"cursor": cursor} if cursor else {})
        page = burst.service.api.get("/v1/submissions", params=wanted, headers=key)
        found += [item["id"] for item in page.raise_for_status().json()["items"]]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            return found


def test_what_was_accepted_is_listed_decided_once_and_taken_in_order_of_age(burst: Burst) -> None:
    service, record = burst.service, burst.service.record

    def kill_api() -> None:
        service.kill("api")
        service.local.start_api()

    burst.from_many("api", OVER_A_KILLED_API, kill_api)
    burst.from_many("broker", WITHOUT_A_BROKER, lambda: service.kill("broker"))
    assert burst.refused == []
    assert len(burst.accepted) == CLIENTS * (OVER_A_KILLED_API + WITHOUT_A_BROKER) > 100

    # Within one minute of the clock: when it turns, the calls of the last one weigh a little less.
    until(lambda: time.time() % 60 < 40)
    burst.submit("greedy", QUOTA + 3)
    assert [answer.status_code for answer in burst.refused] == [429] * 3
    assert all(int(answer.headers["retry-after"]) > 0 for answer in burst.refused)

    accepted = set(burst.accepted)
    assert len(accepted) == len(burst.accepted)
    by_age = [row[0] for row in record.rows("SELECT id FROM submissions ORDER BY created_at")]
    assert set(by_age) == accepted
    assert listed(burst) == by_age[::-1]
    assert record.submissions.waiting() == by_age

    service.local.start_broker()
    worker = Slot(service.local, 0)
    worker.start()
    try:
        open_ones = "SELECT count(*) FROM submissions WHERE state NOT IN ('decided', 'failed')"
        until(lambda: record.rows(open_ones) == [(0,)], 300)
    finally:
        worker.stop()

    assert {record.verdicts(submission_id) for submission_id in accepted} == {1}
    moves: dict[str, list[str]] = {}
    for submission_id, state in record.rows(
        "SELECT submission_id, state FROM transitions ORDER BY id"
    ):
        moves.setdefault(submission_id, []).append(state)
    first, *others = by_age
    assert moves[first] == ["queued", "preparing", "serving", "sampling", "judging", "decided"]
    assert {tuple(moves[each]) for each in others} == {tuple(MOVES)}
    taken = "SELECT submission_id FROM transitions WHERE state = 'preparing' ORDER BY id"
    assert [row[0] for row in record.rows(taken)] == by_age
