"""Calls under ``/v1/hooks``: what each becomes, and that none is taken twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fakes.hooks import (
    ENVIRONMENT,
    Call,
    github_call,
    gitlab_call,
    huggingface_call,
    payload,
    standard_call,
)
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from gate.api.app import create_app
from gate.api.parts import Parts
from gate.settings import Settings
from gate.store.database import open_database

APP = {"app_id": 31337, "private_key_env": "T_KEY", "api_url": "https://api.github.com"}
BODY_BYTES = 20_000


class Queue:
    """Records what would be sent to the workers."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, submission_id: str) -> bool:
        self.sent.append(submission_id)
        return True


def hooks_file(root: Path) -> dict[str, Any]:
    def rule(name: str, checkpoint: str, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            **{key: value for key, value in more.items() if key != "metadata"},
            "submission": {
                "checkpoint": f"{root}/{checkpoint}",
                "metadata": more.get("metadata", {}),
            },
        }

    sha = {"git_sha": "{deployment.sha}"}
    return {
        "github_app": APP,
        "receive": {
            "github": {
                "secret_env": "T_GITHUB",
                "rules": [
                    rule(
                        "deploy",
                        "{deployment.payload.checkpoint}",
                        events=["deployment_protection_rule"],
                        when={"environment": ["production", "staging-*"]},
                        answer="deployment-protection-rule",
                        metadata=sha,
                    ),
                    rule(
                        "check",
                        "run-17/final",
                        events=["check_suite.requested"],
                        answer="check-run",
                        head_sha="{check_suite.head_sha}",
                    ),
                ],
            },
            "gitlab": {
                "secret_env": "T_GITLAB",
                "rules": [rule("push", "run-17/final", when={"ref": "refs/heads/main"})],
            },
            "huggingface": {
                "secret_env": "T_HF",
                "rules": [rule("hub", "{repo.name}", events=["repo.content"])],
            },
            "generic": {
                "secret_env": "T_SIGNING",
                "rules": [rule("trained", "{data.checkpoint}", events=["training.*"])],
            },
        },
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("run-17/final", "acme/support-model"):
        (tmp_path / "root" / name).mkdir(parents=True)
    return (tmp_path / "root").resolve()


@pytest.fixture
def make_api(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TestClient]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def make(content: dict[str, Any]) -> TestClient:
        path = tmp_path / "hooks.yaml"
        path.write_text(yaml.safe_dump(content))
        app = create_app(
            Settings(
                home=tmp_path / "home",
                checkpoint_roots=[root],
                hooks_file=path,
                hook_body_bytes=BODY_BYTES,
            )
        )
        parts: Parts = app.state.parts
        app.state.parts = replace(parts, queue=Queue())  # type: ignore[arg-type]
        return TestClient(app, raise_server_exceptions=False)

    return make


@pytest.fixture
def api(make_api: Callable[..., TestClient], root: Path) -> TestClient:
    return make_api(hooks_file(root))


def send(api: TestClient, call: Call) -> httpx2.Response:
    return api.post(f"/v1/hooks/{call.sender}", content=call.body, headers=call.headers)


def rows(api: TestClient, query: str) -> list[tuple[Any, ...]]:
    of_api: Settings = api.app.state.parts.settings  # type: ignore[attr-defined]
    with open_database(of_api.database).connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def sent(api: TestClient) -> list[str]:
    queue: Queue = api.app.state.parts.queue  # type: ignore[attr-defined]
    return queue.sent


CALLS: dict[str, Callable[[], Call]] = {
    "deployment": lambda: github_call(
        "deployment_protection_rule", payload("github_deployment_protection_rule")
    ),
    "check suite": lambda: github_call("check_suite", payload("github_check_suite")),
    "gitlab": lambda: gitlab_call(payload("gitlab_push")),
    "huggingface": lambda: huggingface_call(payload("huggingface_content")),
    "generic": lambda: standard_call(payload("generic")),
}
EACH = pytest.mark.parametrize("name", sorted(CALLS))


@EACH
def test_a_genuine_call_becomes_a_submission(api: TestClient, root: Path, name: str) -> None:
    call = CALLS[name]()
    got = send(api, call)
    assert (got.status_code, got.json()["status"]) == (202, "accepted"), got.text
    view = api.get(got.headers["location"]).json()
    wanted = "acme/support-model" if name == "huggingface" else "run-17/final"
    assert view["checkpoint"] == f"{root}/{wanted}"
    assert sent(api) == [view["id"]]
    assert rows(api, "SELECT source FROM submissions") == [(call.sender,)]


@EACH
def test_a_replay_is_answered_with_the_earlier_submission(api: TestClient, name: str) -> None:
    call = CALLS[name]()
    first, again = send(api, call), send(api, call)
    assert (again.status_code, again.json()["status"]) == (200, "replayed")
    assert again.json()["submission_id"] == first.json()["submission_id"]
    assert len(sent(api)) == 1


def test_a_captured_body_of_github_is_a_replay_under_any_delivery_id(api: TestClient) -> None:
    call = CALLS["deployment"]()
    send(api, call)
    call.headers["X-GitHub-Delivery"] = "exchanged"
    assert send(api, call).json()["status"] == "replayed"


def test_the_same_call_ten_times_at_once_is_taken_once(api: TestClient) -> None:
    call = CALLS["generic"]()
    with ThreadPoolExecutor(10) as pool:
        got = list(pool.map(lambda _: send(api, call), range(10)))
    assert sorted(answer.status_code for answer in got) == [200] * 9 + [202]
    assert len({answer.json()["submission_id"] for answer in got}) == 1
    assert rows(api, "SELECT count(*) FROM submissions") == [(1,)]


@EACH
def test_a_call_that_proves_nothing_is_refused_and_leaves_nothing(
    api: TestClient, name: str
) -> None:
    call = CALLS[name]()
    for header in (
        "X-Hub-Signature-256",
        "X-Gitlab-Token",
        "X-Webhook-Secret",
        "webhook-signature",
    ):
        if header in call.headers:
            call.headers[header] = "v1,AAAA"
    got = send(api, call)
    assert got.status_code == 401
    assert got.headers["content-type"] == "application/problem+json"
    assert rows(api, "SELECT count(*) FROM submissions") == [(0,)]
    assert rows(api, "SELECT count(*) FROM received_hooks") == [(0,)]


def test_a_sender_that_is_not_configured_is_unknown(make_api: Callable[..., TestClient]) -> None:
    api = make_api({})
    for sender in ("github", "generic", "somebody"):
        got = send(api, replace(CALLS["generic"](), sender=sender))
        assert got.status_code == 404
        assert sender in got.json()["detail"]


def test_a_missing_path_is_named_and_a_corrected_delivery_is_taken(
    api: TestClient, root: Path
) -> None:
    call = standard_call({"type": "training.finished", "data": {}}, message_id="one")
    got = send(api, call)
    assert got.status_code == 422
    assert "nothing at 'data.checkpoint'" in got.json()["detail"]
    good = {"type": "training.finished", "data": {"checkpoint": "run-17/final"}}
    assert send(api, standard_call(good, message_id="one")).status_code == 202


@pytest.mark.parametrize(
    ("checkpoint", "status"),
    [("../../etc", 422), ("gone", 422), ("a/../../x", 422), (7, 422), (None, 422), ([], 422)],
)
def test_values_lead_nowhere_else(api: TestClient, checkpoint: object, status: int) -> None:
    content = {"type": "training.finished", "data": {"checkpoint": checkpoint}}
    got = send(api, standard_call(content))
    assert (got.status_code, got.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize(
    "call",
    [
        lambda: github_call("ping", {"zen": "Keep it logically awesome."}),
        lambda: github_call(
            "deployment_protection_rule",
            {**payload("github_deployment_protection_rule"), "environment": "test"},
        ),
        lambda: gitlab_call({**payload("gitlab_push"), "ref": "refs/heads/feature"}),
        lambda: standard_call({"type": "something.else"}),
        lambda: standard_call({}),
    ],
)
def test_what_no_rule_wants_is_ignored_and_can_come_again(
    api: TestClient, call: Callable[[], Call]
) -> None:
    got = send(api, call())
    assert (got.status_code, got.json()["status"]) == (200, "ignored")
    assert rows(api, "SELECT count(*) FROM received_hooks") == [(0,)]


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"[1]", b"\xff", b'{"a": NaN}', b'{"a": "\\ud800"}', b"[" * 9000],
)
def test_a_signed_body_that_is_no_json_object_is_refused(api: TestClient, body: bytes) -> None:
    call = replace(huggingface_call({}), body=body)
    got = send(api, call)
    assert (got.status_code, got.headers["content-type"]) == (400, "application/problem+json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sender=st.sampled_from(["github", "gitlab", "huggingface", "generic"]),
    changed=st.dictionaries(
        st.sampled_from(["type", "data", "repo", "event", "deployment", "environment", "ref",
                         "installation", "repository", "check_suite", "deployment_callback_url"]),
        JSON, max_size=3,
    ),
)  # fmt: skip
def test_no_signed_payload_breaks_the_gate(
    api: TestClient, sender: str, changed: dict[str, Any]
) -> None:
    call = {
        "github": lambda: github_call(
            "deployment_protection_rule", payload("github_deployment_protection_rule") | changed
        ),
        "gitlab": lambda: gitlab_call(payload("gitlab_push") | changed),
        "huggingface": lambda: huggingface_call(payload("huggingface_content") | changed),
        "generic": lambda: standard_call(payload("generic") | changed),
    }[sender]()
    assert send(api, call).status_code in {200, 202, 400, 403, 422}


def test_a_body_over_the_limit_is_not_read_to_its_end(api: TestClient) -> None:
    read = []

    def endless() -> Any:
        for number in range(10_000):
            read.append(number)
            yield b"x" * 1000

    got = api.post("/v1/hooks/generic", content=endless())
    assert got.status_code == 413
    assert f"{BODY_BYTES} bytes" in got.json()["detail"]


def test_a_deployment_waits_for_its_answer_in_the_record(api: TestClient) -> None:
    send(api, CALLS["deployment"]())
    ((event, state, due),) = rows(api, "SELECT event, state, next_attempt_at FROM deliveries")
    assert (event, state, due) == ("github.deployment_review", "waiting", None)


def test_a_check_run_is_created_at_once_and_completed_later(api: TestClient) -> None:
    send(api, CALLS["check suite"]())
    assert rows(api, "SELECT event, state FROM deliveries ORDER BY id") == [
        ("github.check_run.created", "pending"),
        ("github.check_run.completed", "waiting"),
    ]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/repos/acme/support-model/actions/runs/1/deployment_protection_rule",
        "http://api.github.com/repos/acme/support-model/actions/runs/1/deployment_protection_rule",
        "https://api.github.com@evil.example/repos/acme/support-model/actions/runs/1/deployment_"
        "protection_rule",
        "https://api.github.com/repos/other/repo/actions/runs/1/deployment_protection_rule",
        "https://api.github.com/repos/acme/support-model/actions/runs/1/../../x",
        "https://api.github.com.evil.example/repos/acme/support-model/actions/runs/1/deployment_"
        "protection_rule",
        "http://169.254.169.254/latest/meta-data",
    ],
)
def test_a_callback_to_anywhere_else_is_refused(api: TestClient, url: str) -> None:
    content = {**payload("github_deployment_protection_rule"), "deployment_callback_url": url}
    got = send(api, github_call("deployment_protection_rule", content))
    assert got.status_code == 422
    assert "deployment_callback_url does not lead to" in got.json()["detail"]
    assert rows(api, "SELECT count(*) FROM submissions") == [(0,)]


def test_a_signing_token_of_gitlab_replaces_the_secret_token(
    make_api: Callable[..., TestClient], root: Path
) -> None:
    content = hooks_file(root)
    content["receive"]["gitlab"] |= {"secret_env": "T_SIGNING", "signed": True}
    api = make_api(content)
    push = payload("gitlab_push")
    assert send(api, gitlab_call(push)).status_code == 401
    signed = standard_call(push, sender="gitlab")
    signed.headers["X-Gitlab-Event"] = "Push Hook"
    assert send(api, signed).status_code == 202


def test_the_policy_of_a_rule_must_exist(make_api: Callable[..., TestClient], root: Path) -> None:
    content = hooks_file(root)
    content["receive"]["generic"]["rules"][0]["submission"]["policy"] = "nonsense"
    got = send(make_api(content), CALLS["generic"]())
    assert (got.status_code, got.json()["title"]) == (422, "The policy cannot be used")


def test_a_location_of_the_senders_own_is_held_to_the_roots(
    make_api: Callable[..., TestClient], root: Path, tmp_path: Path
) -> None:
    content = hooks_file(root)
    content["receive"]["generic"]["rules"][0]["submission"]["checkpoint"] = "{data.checkpoint}"
    api = make_api(content)
    body = {"type": "training.finished", "data": {"checkpoint": str(tmp_path)}}
    assert send(api, standard_call(body)).status_code == 403
    body["data"] = {"checkpoint": str(root / "run-17" / "final")}
    assert send(api, standard_call(body)).status_code == 202
