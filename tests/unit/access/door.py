"""An API in this process, and what is read of its answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi.testclient import TestClient
from httpx2 import Response
from prometheus_client import REGISTRY
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.access.keys import Presented
from gate.access.scopes import Scope
from gate.api.app import create_app
from gate.policy import Condition
from gate.settings import Settings
from gate.store.database import open_database
from gate.store.keys import KeyStore
from gate.store.submissions import SubmissionRecord
from gate.submission import SubmissionRequest
from gate.verdict import decide

FAIL = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.3, 0.4)), DIGESTS
)  # fmt: skip
PASS = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.0, 0.1)), DIGESTS
)  # fmt: skip
REASON = "accepted for the pilot, SEC-41"


class Door:
    """An API in this process, and its database."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = open_database(settings.database)
        self.keys = KeyStore(self.database)
        self.submissions = SubmissionRecord(self.database)
        self.app = create_app(settings)
        self.api = TestClient(self.app, raise_server_exceptions=False)

    def key(self, *scopes: Scope, name: str = "ci", **changes: Any) -> Presented:
        return self.keys.create(name, scopes, changes.get("expires_at"), "cli:ada")[1]

    def call(self, method: str, path: str, key: Presented | None = None, **more: Any) -> Response:
        headers = {"Authorization": f"Bearer {key.text}"} if key else {}
        return self.api.request(method, path, headers=headers | more.pop("headers", {}), **more)

    def last_use(self) -> datetime | None:
        """When the only key was last used; the API notes that after it has answered."""
        self.app.state.admission.audit.settle()
        (key,) = self.keys.all()
        return key.last_used_at

    def audit(self) -> list[tuple[str, str, str | None, int | None]]:
        """Actor, action, target and status of the calls, oldest first; not of the command line."""
        rows = self.app.state.admission.audit.newest(10_000)
        return [
            (r.actor, r.action, r.target, r.status)
            for r in reversed(rows)
            if not r.actor.startswith("cli:")
        ]

    def decided(self, verdict: Any = FAIL) -> str:
        made = self.submissions.create(SubmissionRequest(checkpoint="/c"), "api")
        self.submissions.conclude(made.id, verdict)
        return made.id


def problem(got: Response, status: int) -> str:
    assert got.status_code == status, got.text
    assert got.headers["content-type"] == "application/problem+json"
    assert got.json()["status"] == status
    detail: str = got.json()["detail"]
    return detail


def soon(hours: float = 1) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("emgate_requests_refused_total", {"reason": reason}) or 0.0
