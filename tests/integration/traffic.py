"""Everything that a gate is asked, so that every metric of it moves."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml
from fakes.hooks import standard_call

from integration.harness import Service

#: The model that has several versions, and is judged by a judge.
MODEL = "support"


def write_judges(directory: Path, url: str) -> Path:
    """Write the file of an ensemble of two judges behind an endpoint, one of which has a price."""
    directory.mkdir(parents=True, exist_ok=True)
    price = {"input_per_million": 2.5, "output_per_million": 10, "currency": "EUR"}
    for name, more in {"first": {"price": price}, "second": {}}.items():
        judge = {"kind": "endpoint", "name": name, "url": url, "model": "m", **more}
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(judge))
    ensemble = {"kind": "ensemble", "name": "both", "members": ["first.yaml", "second.yaml"]}
    path = directory / "ensemble.yaml"
    path.write_text(yaml.safe_dump(ensemble))
    return path


def write_hooks(path: Path, base: Path, receivers: Mapping[str, str]) -> Path:
    """Write a hooks file: signed calls submit a checkpoint, and each receiver hears of verdicts."""
    rule = {
        "name": "any",
        "submission": {"checkpoint": "{checkpoint}", "base": str(base), "policy": "fails"},
    }
    told = [
        {"name": name, "url": url, "secret_env": "T_SIGNING", "events": ["verdict.created"]}
        for name, url in receivers.items()
    ]
    hooks = {
        "allowed_networks": ["127.0.0.0/8"],
        "receive": {"generic": {"secret_env": "T_SIGNING", "rules": [rule]}},
        "send": told,
    }
    path.write_text(yaml.safe_dump(hooks))
    return path


@dataclass(frozen=True)
class Traffic:
    """What to submit to which service."""

    service: Service
    base: Path
    adapter: Path
    #: A directory that has no checkpoint in it.
    empty: Path

    def first(self) -> None:
        """Verdicts of every outcome, a run that fails, a waiver, an upload, calls that are refused.

        Waits until all of it has ended.
        """
        begun = [
            self._submit("passes-all", model=MODEL, version="v1"),
            self._submit("fails", model="coder"),
            self._submit("leaves-open", model="writer"),
            self._submit("passes", checkpoint=self.empty),
        ]
        self._upload()
        self._be_refused()
        ended = [self.service.wait(each) for each in begun]
        outcomes = [each["outcome"] for each in ended]
        assert outcomes == ["pass", "fail", "inconclusive", None], outcomes
        assert ended[-1]["state"] == "failed"
        self._waive(begun[1])

    def second(self) -> None:
        """A second version, whose baseline and judgements are known; a webhook comes in.

        Waits until all of it has ended.
        """
        begun = [self._submit("passes-all", model=MODEL, version="v2"), self._call()]
        outcomes = [self.service.wait(each)["outcome"] for each in begun]
        assert outcomes == ["pass", "fail"], outcomes
        self._waive(begun[1])

    def third(self) -> None:
        """A submission whose verdict stands, as that of the webhook did before it."""
        standing = self._submit("passes-all", fresh=False, model=MODEL, version="v2")
        assert self.service.wait(standing)["outcome"] == "pass"

    def _submit(
        self, policy: str, checkpoint: Path | None = None, fresh: bool = True, **metadata: str
    ) -> str:
        wanted = checkpoint or self.adapter
        answer = self.service.post(wanted, self.base, policy, fresh=fresh, metadata=metadata)
        return _id(answer, "id")

    def _call(self) -> str:
        call = standard_call({"checkpoint": str(self.adapter)})
        path = f"/v1/hooks/{call.sender}"
        return _id(
            self.service.api.post(path, content=call.body, headers=call.headers), "submission_id"
        )

    def _upload(self) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            tar.add(self.adapter, self.adapter.name)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        for announced in (digest, "0" * 64):
            answer = self.service.api.post(
                "/v1/uploads",
                params={"sha256": announced},
                content=content,
                headers={"Content-Type": "application/gzip"},
            )
            assert answer.is_success is (announced == digest), answer.text

    def _be_refused(self) -> None:
        answer = self.service.api.get("/v1/submissions", headers={"Host": "rebound.example"})
        assert answer.status_code == httpx.codes.UNAUTHORIZED, answer.text

    def _waive(self, submission: str) -> None:
        waiver: dict[str, Any] = {
            "reason": "Only for this test, which looks at its trace.",
            "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
        }
        answer = self.service.api.post(f"/v1/submissions/{submission}/waivers", json=waiver)
        assert answer.status_code == httpx.codes.CREATED, answer.text


def _id(answer: httpx.Response, name: str) -> str:
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    value: str = answer.json()[name]
    return value
