"""An API in this process, on a database of its own, without workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from checks.judgement import Exchange, Judge, Judgement
from checks.sample import Sample
from gate.api.app import create_app
from gate.api.parts import Parts
from gate.settings import Settings
from gate.submission import Submission, SubmissionRequest


class Queue:
    """Records what would be sent to the workers."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, submission_id: str) -> bool:
        self.sent.append(submission_id)
        return True


class Api:
    """The application with a client, and what lies behind it."""

    def __init__(self, home: Path, **changes: Any) -> None:
        self.root = home / "root"
        self.model = self.root / "model"
        self.model.mkdir(parents=True)
        self.settings = Settings(home=home / "home", checkpoint_roots=[self.root], **changes)
        self.app: FastAPI = create_app(self.settings)
        made: Parts = self.app.state.parts
        self.queue = Queue()
        self.parts = Parts(made.settings, made.submissions, made.transcripts, self.queue)  # type: ignore[arg-type]
        self.app.state.parts = self.parts
        self.client = TestClient(self.app, raise_server_exceptions=False)

    @property
    def record(self) -> Any:
        return self.parts.submissions

    def body(self, **more: Any) -> dict[str, Any]:
        return {"checkpoint": str(self.model), **more}

    def submit(self, key: str | None = None, **more: object) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        return self.client.post("/v1/submissions", json=self.body(**more), headers=headers)

    def create(self, checkpoint: str = "/c", source: str = "api", **more: Any) -> Submission:
        """A submission in the record, past the intake."""
        wanted = SubmissionRequest(checkpoint=checkpoint, **more)
        submission: Submission = self.record.create(wanted, source)
        return submission

    def get(self, path: str, **query: str | int | list[str]) -> Any:
        return self.client.get(path, params=query)

    def ids(self, **query: str | int | list[str]) -> list[str]:
        page = self.get("/v1/submissions", **query)
        assert page.status_code == 200, page.text
        return [item["id"] for item in page.json()["items"]]

    def give_samples(
        self, submission_id: str, samples: list[Sample], judge: Judge | None = None
    ) -> None:
        """Let a submission's candidate have answered, and a judge have rated the answers."""
        transcript = self.parts.transcripts.open(submission_id, "sha256:a", "sha256:c", "vllm")
        self.record.attach(submission_id, transcript, None)
        self.parts.transcripts.add(transcript, samples)
        if judge is not None:
            checks = list({s.elicitation.check for s in samples})
            rows = self.parts.transcripts.unjudged(transcript, judge.digest, checks)
            ratings = {s.elicitation.key: s.judgement for s in samples}
            rated: dict[int, Judgement] = {
                number: rating
                for number, sample in rows.items()
                if (rating := ratings[sample.elicitation.key]) is not None
            }
            self.parts.transcripts.add_judgements(judge, rated)


class NamedJudge:
    """A judge that is only named: it rates nothing itself."""

    name = "named"
    digest = "sha256:e"

    def judge(self, exchanges: Sequence[Exchange], fresh: bool = False) -> list[Judgement]:
        raise AssertionError("nothing is rated here")


def problem(answer: Any, status: int, kind: str) -> dict[str, Any]:
    """The problem that an answer is; it must be of this kind."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = answer.json()
    assert (content["type"], content["status"]) == (f"urn:emgate:problem:{kind}", status)
    return content
