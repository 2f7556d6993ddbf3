"""From a call of GitHub to its answer, through every part of the service; the engine is fake."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import yaml
from fakes.gate import until
from fakes.github import APP_ID, github_server
from fakes.hooks import ENVIRONMENT, SIGNING_KEY, github_call, payload
from fakes.receiver import receiving
from standardwebhooks.webhooks import Webhook

from gate.settings import Settings
from integration.harness import start_notification_worker
from workers.local_service import LocalService


def test_a_checkpoint_goes_from_a_deployment_to_its_approval(
    isolated_settings: Settings,
    tmp_path: Path,
    tiny_base: Path,
    tiny_adapter: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with github_server() as github, receiving() as receiver:
        for name, value in {**ENVIRONMENT, "T_KEY": github.private_key}.items():
            monkeypatch.setenv(name, value)
        rule = {
            "name": "deploy",
            "events": ["deployment_protection_rule"],
            "submission": {
                "checkpoint": f"{tiny_adapter.parent}/{{deployment.payload.checkpoint}}",
                "base": str(tiny_base),
                "policy": "passes",
                "metadata": {"git_sha": "{deployment.sha}"},
            },
            "answer": "deployment-protection-rule",
        }
        app = {"app_id": APP_ID, "private_key_env": "T_KEY", "api_url": github.url}
        told = {
            "name": "bot",
            "url": receiver.url,
            "secret_env": "T_SIGNING",
            "events": ["submission.state_changed", "verdict.created"],
        }
        path = tmp_path / "hooks.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "allowed_networks": ["127.0.0.0/8"],
                    "github_app": app,
                    "receive": {"github": {"secret_env": "T_GITHUB", "rules": [rule]}},
                    "send": [told],
                }
            )
        )
        settings = isolated_settings.model_copy(
            update={"hooks_file": path, "notify_schedule": [0.5] * 100, "notify_seconds": 20.0}
        )
        content = payload("github_deployment_protection_rule")
        content["deployment"]["payload"] = {"checkpoint": tiny_adapter.name}
        content["deployment_callback_url"] = github.callback()
        call = github_call("deployment_protection_rule", content)
        with LocalService(settings) as local:
            notifying = start_notification_worker(local.settings, tmp_path / "notification.log")
            try:
                url = f"{local.url}/v1/hooks/github"
                got = httpx.post(url, content=call.body, headers=call.headers, timeout=30)
                assert got.status_code == 202, got.text
                until(lambda: github.reviews and len(receiver.requests) == 7, 180)
            finally:
                notifying.terminate()
                notifying.wait(60)
    assert [review["state"] for review in github.reviews] == ["approved"]
    assert github.wrong == []
    messages = [Webhook(SIGNING_KEY).verify(r.body, r.headers) for r in receiver.requests]
    states = {m["data"]["state"] for m in messages if m["type"] == "submission.state_changed"}
    assert states == {"queued", "preparing", "serving", "sampling", "judging", "decided"}
    (decided,) = [m for m in messages if m["type"] == "verdict.created"]
    assert decided["data"]["outcome"] == "pass"
    assert decided["data"]["metadata"] == {"git_sha": content["deployment"]["sha"]}
    assert decided["data"]["submission_id"] == got.json()["submission_id"]
