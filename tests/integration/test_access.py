"""Keys with real servers: refusing to start, the first key, revocation, shared rate limits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.gate import environment_of, until
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.access.keys import KEY_PATTERN
from gate.policy import Condition
from gate.settings import Settings
from gate.store.database import open_database
from gate.store.submissions import SubmissionRecord
from gate.submission import SubmissionRequest
from gate.verdict import decide
from integration.harness import emgate
from workers.local_service import LocalService, _free_port

FAIL = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.3, 0.4)), DIGESTS
)  # fmt: skip


class Api:
    """One ``emgate serve`` on a free port, with its log."""

    def __init__(self, settings: Settings, stack: ExitStack, log: Path) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        stream = stack.enter_context(log.open("wb"))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gate", "serve", "--port", str(self.port)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment_of(settings),
        )
        stack.callback(self._stop)
        until(self._answers, 60)

    def get(self, path: str, key: str | None = None, **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=_with(key, headers), timeout=30)

    def post(self, path: str, key: str | None = None, **headers: str) -> httpx.Response:
        return httpx.post(self.url + path, headers=_with(key, headers), json={}, timeout=30)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def _stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def _with(key: str | None, headers: dict[str, str]) -> dict[str, str]:
    return headers | ({"Authorization": f"Bearer {key}"} if key else {})


def make_key(settings: Settings, name: str, *scopes: str) -> dict[str, Any]:
    options = [part for scope in scopes for part in ("--scope", scope)]
    done = emgate(settings, "keys", "create", name, *options, "--json")
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", broker_url=f"redis+socket://{tmp_path}/no-broker")


@pytest.fixture
def serve(settings: Settings, tmp_path: Path) -> Iterator[Callable[[], Api]]:
    """Starts API processes on one database."""
    numbers = iter(range(9))
    with ExitStack() as stack:
        yield lambda: Api(settings, stack, tmp_path / f"api-{next(numbers)}.log")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_without_a_key_the_api_does_not_listen_to_other_machines(
    settings: Settings, host: str
) -> None:
    done = emgate(settings, "serve", "--host", host, "--port", "0")
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "no API key exists: make one with 'emgate keys create" in done.stderr


def test_keys_can_be_asked_for_on_loopback_too(settings: Settings) -> None:
    wanted = settings.model_copy(update={"keys_required": True})
    done = emgate(wanted, "serve", "--port", "0")
    assert done.returncode == 2
    assert "GATE_KEYS_REQUIRED" in done.stderr


def test_with_a_key_it_listens_everywhere_and_lets_nobody_in_without_one(
    settings: Settings, serve: Callable[[], Api]
) -> None:
    key = make_key(settings, "reader", "read")["key"]
    settings.api_host = "0.0.0.0"
    api = serve()
    assert api.get("/v1/submissions").status_code == 401
    assert api.get("/v1/submissions", key).status_code == 200


def test_the_first_key_takes_effect_at_once_in_every_running_api(
    settings: Settings, serve: Callable[[], Api]
) -> None:
    apis = [serve(), serve()]
    assert [api.get("/v1/submissions").status_code for api in apis] == [200, 200]
    assert [api.get("/v1/audit").status_code for api in apis] == [200, 200]

    made = make_key(settings, "lead", "admin")

    assert [api.get("/v1/submissions").status_code for api in apis] == [401, 401]
    assert [api.get("/v1/audit", made["key"]).status_code for api in apis] == [200, 200]
    assert [api.get("/health").status_code for api in apis] == [200, 200]

    assert emgate(settings, "keys", "revoke", made["id"]).returncode == 0

    assert [api.get("/v1/audit", made["key"]).status_code for api in apis] == [401, 401]
    assert [api.get("/v1/submissions").status_code for api in apis] == [401, 401]
    for api in apis:
        assert KEY_PATTERN.search(api.log.read_text()) is None


def test_a_forged_address_or_a_foreign_host_is_not_this_machine(serve: Callable[[], Api]) -> None:
    api = serve()
    assert api.get("/v1/submissions").status_code == 200
    for header in (
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-For": "testclient"},
        {"Host": "rebound.example"},
        {"Origin": "https://evil.example"},
    ):
        refused = api.post("/v1/submissions", **header)
        assert refused.status_code == 401, header
        assert refused.headers["content-type"] == "application/problem+json"


def test_a_key_in_a_url_is_not_in_the_log(settings: Settings, serve: Callable[[], Api]) -> None:
    api = serve()
    made = make_key(settings, "lead", "admin")
    api.get(f"/v1/submissions?key={made['key']}")
    api.get(f"/v1/{made['key']}", made["key"])
    text = api.log.read_text()
    assert f"emg_{made['id']}_[redacted]" in text
    assert made["key"].split("_")[2] not in text


def test_the_command_line_leaves_its_rows_and_shows_a_secret_once(settings: Settings) -> None:
    made = make_key(settings, "ci", "submit", "read")
    secret = made["key"].split("_")[2]
    listed = emgate(settings, "keys", "list", "--json")
    audited = emgate(settings, "audit", "--json", "--since", "1h")
    assert [key["id"] for key in json.loads(listed.stdout)] == [made["id"]]
    rows = [json.loads(line) for line in audited.stdout.splitlines()]
    assert [(row["action"], row["target"]) for row in rows] == [("key.create", made["id"])]
    assert rows[0]["actor"].startswith("cli:")
    assert secret not in listed.stdout + audited.stdout + audited.stderr
    table = emgate(settings, "keys", "list")
    assert "active" in table.stdout
    plain = emgate(settings, "keys", "create", "second", "--expires", "never")
    assert re.fullmatch(KEY_PATTERN, plain.stdout.strip())


def test_a_waiver_is_granted_listed_and_revoked_at_a_terminal(settings: Settings) -> None:
    record = SubmissionRecord(open_database(settings.database))
    submission = record.create(SubmissionRequest(checkpoint="/c"), "api").id
    grant = ("waivers", "grant", submission, "--reason", "pilot only, SEC-41", "--expires", "7d")
    early = emgate(settings, *grant)
    assert (early.returncode, "no verdict yet" in early.stderr) == (2, True)
    record.conclude(submission, FAIL)

    made = json.loads(emgate(settings, *grant, "--json").stdout)
    assert (made["status"], made["submission_id"]) == ("active", submission)
    assert made["granted_by"].startswith("cli:")
    too_long = emgate(settings, *grant[:-1], "60d")
    assert (too_long.returncode, "at most 30 days" in too_long.stderr) == (2, True)
    assert emgate(settings, "waivers", "revoke", made["id"]).returncode == 0

    assert json.loads(emgate(settings, "waivers", "list", "--json").stdout) == []
    every = json.loads(emgate(settings, "waivers", "list", submission, "--all", "--json").stdout)
    assert [(waiver["id"], waiver["status"]) for waiver in every] == [(made["id"], "revoked")]
    audited = [json.loads(line) for line in emgate(settings, "audit", "--json").stdout.splitlines()]
    assert [row["action"] for row in audited] == ["waiver.revoke", "waiver.grant"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("keys", "create", "a|b"), "is not a name for a key"),
        (("keys", "create", "ci", "--expires", "soon"), "is not a duration"),
        (("keys", "create", "ci", "--scope", "root"), "Invalid value for '--scope'"),
        (("keys", "revoke", "nope"), "there is no key 'nope'"),
        (("waivers", "grant", "sub_x", "--reason", "because it is", "--expires", "1d"), "sub_x"),
        (("waivers", "grant", "sub_x", "--reason", "no", "--expires", "1d"), "a reason has 10"),
        (("waivers", "revoke", "wav_x"), "there is no waiver 'wav_x'"),
        (("audit", "--since", "yesterday"), "neither a duration"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    settings: Settings, arguments: tuple[str, ...], says: str
) -> None:
    done = emgate(settings, *arguments)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_database_that_does_not_answer_is_exit_code_4(settings: Settings) -> None:
    gone = settings.model_copy(
        update={"database_url": "postgresql+psycopg://u:hidden@127.0.0.1:1/gate"}
    )
    done = emgate(gone, "keys", "list")
    assert done.returncode == 4
    assert "cannot be used: connection failed" in done.stderr
    assert "hidden" not in done.stderr


def test_limits_are_shared_by_api_processes_through_the_broker_and_outlive_it(
    tmp_path: Path, short_tmp: Path
) -> None:
    wanted = Settings(home=tmp_path / "home", rate_reads_per_minute=6)
    with LocalService(wanted, worker=False) as service, ExitStack() as stack:
        key = make_key(service.settings, "reader", "read")["key"]
        first = Api(service.settings, stack, tmp_path / "first.log")
        second = Api(service.settings, stack, tmp_path / "second.log")
        got = [api.get("/v1/submissions", key) for _ in range(6) for api in (first, second)]
        codes = [answer.status_code for answer in got]
        # A window slides; the minute may turn once while the calls are made.
        assert codes.count(200) <= 7, codes
        assert codes[:6] == [200] * 6
        refused = next(answer for answer in got if answer.status_code == 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 60

        service.stop_part("broker")
        alone = [first.get("/v1/submissions", key).status_code for _ in range(8)]
        assert alone[0] == 200
        assert 429 in alone
