"""A server in GitHub's place: checks the app's JWT, gives narrow tokens, and holds to its API."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fakes.receiver import Received, Receiver, Reply, receiving

APP_ID = "31337"
INSTALLATION = 5551234
REPOSITORY = "acme/support-model"


@dataclass
class GitHub:
    """What the server knows, and what was done to it."""

    private_key: str
    public_key: str
    receiver: Receiver = field(default_factory=Receiver)
    tokens: dict[str, tuple[str, set[str]]] = field(default_factory=dict)
    reviews: list[dict[str, Any]] = field(default_factory=list)
    check_runs: dict[int, dict[str, Any]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    #: Replies that come before any others, one per request.
    faults: list[Reply] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.receiver.port}"

    def callback(self, run: int = 7654321098) -> str:
        return f"{self.url}/repos/{REPOSITORY}/actions/runs/{run}/deployment_protection_rule"

    def answer(self, request: Received) -> Reply:
        if self.faults:
            return self.faults.pop(0)
        if request.headers.get("x-github-api-version") != "2022-11-28":
            return self._wrong(400, "no API version")
        if not request.headers.get("user-agent"):
            return self._wrong(403, "no user agent")
        if request.path == f"/app/installations/{INSTALLATION}/access_tokens":
            return self._token(request)
        path, _, query = request.path.partition("?")
        if re.fullmatch(rf"/repos/{REPOSITORY}/actions/runs/\d+/deployment_protection_rule", path):
            return self._allowed(request, "deployments") or self._review(request)
        runs = re.fullmatch(rf"/repos/{REPOSITORY}/check-runs(?:/(\d+))?", path)
        if runs:
            return self._allowed(request, "checks") or self._check_run(request, runs.group(1))
        listed = re.fullmatch(rf"/repos/{REPOSITORY}/commits/([0-9a-f]+)/check-runs", path)
        if listed and request.method == "GET":
            return self._allowed(request, "checks") or self._list(listed.group(1), query)
        return self._wrong(404, f"unknown path {request.path}")

    def _token(self, request: Received) -> Reply:
        try:
            claims = jwt.decode(
                _bearer(request), self.public_key, algorithms=["RS256"],
                options={"require": ["iat", "exp", "iss"]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            return self._wrong(401, f"bad JWT: {error}")
        if claims["iss"] != APP_ID or claims["exp"] - claims["iat"] > 600:
            return self._wrong(401, f"claims that GitHub refuses: {claims}")
        wanted = json.loads(request.body)
        if wanted.get("repositories") != [REPOSITORY.partition("/")[2]]:
            return self._wrong(422, "a token for more than its repository")
        token = f"ghs_{uuid.uuid4().hex}"
        self.tokens[token] = (REPOSITORY, set(wanted["permissions"]))
        expires = datetime.now(UTC) + timedelta(hours=1)
        return _json(201, {"token": token, "expires_at": expires.isoformat()})

    def _allowed(self, request: Received, right: str) -> Reply | None:
        _, rights = self.tokens.get(_bearer(request), ("", set()))
        return None if right in rights else self._wrong(403, f"no right to {right}")

    def _review(self, request: Received) -> Reply:
        body = json.loads(request.body)
        if set(body) != {"environment_name", "state", "comment"}:
            return self._wrong(422, f"a review of {sorted(body)}")
        if body["state"] not in {"approved", "rejected"}:
            return self._wrong(422, f"a review in state {body['state']}")
        self.reviews.append(body)
        return Reply(204)

    def _check_run(self, request: Received, number: str | None) -> Reply:
        body = json.loads(request.body)
        if number is None:
            if request.method != "POST" or not {"name", "head_sha"} <= body.keys():
                return self._wrong(422, "a check run without name or commit")
            made = len(self.check_runs) + 1
            self.check_runs[made] = {"id": made, **body}
            return _json(201, self.check_runs[made])
        if request.method != "PATCH" or int(number) not in self.check_runs:
            return self._wrong(404, "no such check run")
        if (body.get("status") == "completed") != ("conclusion" in body):
            return self._wrong(422, "status and conclusion do not go together")
        self.check_runs[int(number)] |= body
        return _json(200, self.check_runs[int(number)])

    def _list(self, commit: str, query: str) -> Reply:
        if "filter=all" not in query:
            return self._wrong(422, "only the latest runs were asked for")
        found = [run for run in self.check_runs.values() if run["head_sha"] == commit]
        return _json(200, {"total_count": len(found), "check_runs": found})

    def _wrong(self, status: int, why: str) -> Reply:
        self.wrong.append(why)
        return _json(status, {"message": why})


def _bearer(request: Received) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


def _json(status: int, content: object) -> Reply:
    return Reply(status, json.dumps(content).encode(), {"content-type": "application/json"})


def make_key() -> tuple[str, str]:
    """A private key as GitHub gives it to an app, and its public key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


@contextmanager
def github_server() -> Iterator[GitHub]:
    """Run the server on loopback."""
    github = GitHub(*make_key())
    with receiving() as receiver:
        receiver.behave = github.answer
        github.receiver = receiver
        yield github
