"""Speaks to GitHub as the installation of a GitHub App: reviews deployments, writes check runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import jwt

from gate.hooks.config import GitHubApp, HooksFileError
from gate.hooks.github import GitHubContext, Review, require_callback
from workers.notify.transport import Answer, Sending

API_VERSION = "2022-11-28"
#: GitHub takes no token that lives longer than ten minutes; its clock may be a minute behind.
TOKEN_MINUTES = 9
CLOCK_SKEW_SECONDS = 60


class GitHubRefusedError(Exception):
    """GitHub answered something else than success."""

    def __init__(self, what: str, answer: Answer) -> None:
        super().__init__(f"{what}: GitHub answered {answer.status}")
        self.answer = answer


@dataclass(frozen=True)
class GitHubClient:
    """Answers GitHub. Every answer takes a token of its own, for one repository and one right."""

    app: GitHubApp
    private_key: str
    sending: Sending

    def review(self, context: GitHubContext, review: Review) -> int:
        """Approve or reject a deployment; return the status.

        Raises:
            GitHubRefusedError: GitHub did not take it.
            PayloadError: the callback is not at this API.
        """
        url = context.callback_url or ""
        # Checked when the call came in, too; the configuration may have changed since.
        require_callback(url, self.app.api_url, context.repository)
        token = self._token(context, "deployments")
        return self._call("POST", url, token, review.model_dump(), "the review").status

    def create_check_run(
        self, context: GitHubContext, body: dict[str, object], may_exist: bool
    ) -> tuple[int, int]:
        """Create a check run, or find the one with this ``external_id``; its id and a status."""
        token = self._token(context, "checks")
        if may_exist:
            found = self._find(context, token, str(body["external_id"]))
            if found is not None:
                return found, 200
        url = f"{self._repository(context)}/check-runs"
        answer = self._call("POST", url, token, body, "the check run")
        return int(_field(answer, "the check run", "id")), answer.status

    def complete_check_run(
        self, context: GitHubContext, check_run_id: int, body: dict[str, object]
    ) -> int:
        """Complete a check run; return the status."""
        token = self._token(context, "checks")
        url = f"{self._repository(context)}/check-runs/{check_run_id}"
        return self._call("PATCH", url, token, body, "the check run").status

    def _find(self, context: GitHubContext, token: str, external_id: str) -> int | None:
        """An attempt that was killed may have created it already."""
        name = quote(self.app.check_name, safe="")
        url = (
            f"{self._repository(context)}/commits/{context.head_sha}/check-runs"
            f"?check_name={name}&filter=all&per_page=100"
        )
        answer = self._call("GET", url, token, None, "the list of check runs")
        runs = _content(answer, "the list of check runs").get("check_runs", [])
        return next((int(run["id"]) for run in runs if run.get("external_id") == external_id), None)

    def _token(self, context: GitHubContext, right: str) -> str:
        now = datetime.now(UTC)
        claims = {
            "iat": now - timedelta(seconds=CLOCK_SKEW_SECONDS),
            "exp": now + timedelta(minutes=TOKEN_MINUTES),
            "iss": self.app.app_id,
        }
        try:
            signed = jwt.encode(claims, self.private_key, algorithm="RS256")
        except (ValueError, TypeError, jwt.InvalidKeyError) as error:
            raise HooksFileError(
                f"{self.app.private_key_env} holds no RSA private key in PEM: {error}"
            ) from error
        url = f"{self.app.api_url}/app/installations/{context.installation_id}/access_tokens"
        wanted = {
            "repositories": [context.repository.partition("/")[2]],
            "permissions": {right: "write"},
        }
        answer = self._call("POST", url, signed, wanted, "the installation token")
        return str(_field(answer, "the installation token", "token"))

    def _repository(self, context: GitHubContext) -> str:
        return f"{self.app.api_url}/repos/{context.repository}"

    def _call(self, method: str, url: str, token: str, body: Any, what: str) -> Answer:
        headers = {
            "accept": "application/vnd.github+json",
            "authorization": f"Bearer {token}",
            "content-type": "application/json",
            "user-agent": "em-gate",
            "x-github-api-version": API_VERSION,
        }
        content = None if body is None else json.dumps(body).encode()
        answer = self.sending.request(method, url, headers, content)
        if not answer.ok:
            raise GitHubRefusedError(what, answer)
        return answer


def _content(answer: Answer, what: str) -> dict[str, Any]:
    try:
        content = json.loads(answer.body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise GitHubRefusedError(f"{what} is no JSON object", answer)
    return content


def _field(answer: Answer, what: str, name: str) -> Any:
    content = _content(answer, what)
    if name not in content:
        raise GitHubRefusedError(f"{what} has no {name}", answer)
    return content[name]
