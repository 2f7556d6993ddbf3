"""What GitHub is answered: a review of a deployment, or a check run. Pure."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gate.hooks.config import Answer, GitHubApp, GitHubRule
from gate.hooks.template import Path, PayloadError, fill, value_at
from gate.policy import Release
from gate.submission import State, Submission
from gate.verdict import Outcome, Verdict

#: Events of deliveries to GitHub.
REVIEW = "github.deployment_review"
CHECK_RUN_CREATED = "github.check_run.created"
CHECK_RUN_COMPLETED = "github.check_run.completed"

_REPOSITORY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}/[A-Za-z0-9_.-]{0,99}[A-Za-z0-9_-]")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
#: Longest comment and summary, in characters.
LONGEST_COMMENT = 1000
LONGEST_SUMMARY = 8000


class GitHubContext(BaseModel):
    """What an answer needs of the call that it answers; kept with the delivery."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    installation_id: int = Field(gt=0)
    repository: str
    callback_url: str | None = None
    environment: str | None = None
    head_sha: str | None = None
    check_run_id: int | None = None


class PlannedAnswer(BaseModel):
    """A delivery that a call causes; ``at_end`` waits until the submission has ended."""

    model_config = ConfigDict(frozen=True)

    event: str
    at_end: bool
    context: GitHubContext


class Review(BaseModel):
    """Body of a review of a deployment protection rule."""

    environment_name: str
    state: Literal["approved", "rejected"]
    comment: str


def answers_of(rule: GitHubRule, app: GitHubApp, payload: object) -> tuple[PlannedAnswer, ...]:
    """The answers that a rule promises to the call with this payload.

    Raises:
        PayloadError: the payload has no installation, repository, commit, or callback at the
            configured API.
    """
    if rule.answer is None:
        return ()
    context = GitHubContext(installation_id=_installation(payload), repository=_repository(payload))
    if rule.answer is Answer.DEPLOYMENT_PROTECTION_RULE:
        url = value_at(payload, Path(("deployment_callback_url",)))
        require_callback(url, app.api_url, context.repository)
        environment = value_at(payload, Path(("environment",)))
        asked = context.model_copy(update={"callback_url": url, "environment": environment})
        return (PlannedAnswer(event=REVIEW, at_end=True, context=asked),)
    commit = fill(rule.head_sha or "", payload)
    if not _COMMIT.fullmatch(commit):
        raise PayloadError("head_sha is not the full id of a commit")
    asked = context.model_copy(update={"head_sha": commit})
    return (
        PlannedAnswer(event=CHECK_RUN_CREATED, at_end=False, context=asked),
        PlannedAnswer(event=CHECK_RUN_COMPLETED, at_end=True, context=asked),
    )


def require_callback(url: str, api_url: str, repository: str) -> None:
    """Refuse a callback that is not the review of a run of this repository at this API.

    A signed payload is no reason to send a token to any other place.

    Raises:
        PayloadError: it is somewhere else.
    """
    expected = re.escape(f"{api_url}/repos/{repository}/actions/runs/")
    if not re.fullmatch(expected + r"[0-9]{1,20}/deployment_protection_rule", url):
        raise PayloadError(
            f"deployment_callback_url does not lead to a run of {repository} at {api_url}"
        )


def review_of(
    submission: Submission, verdict: Verdict | None, environment: str, report: str | None
) -> Review:
    """Approve what the policy releases; reject all else, also what could not be judged."""
    released = verdict is not None and verdict.release is Release.ALLOW
    return Review(
        environment_name=environment,
        state="approved" if released else "rejected",
        comment=_bounded(_sentences(submission, verdict, report), LONGEST_COMMENT),
    )


def check_run_started(
    submission: Submission, name: str, head_sha: str, link: str | None
) -> dict[str, object]:
    """Body that creates the check run while the submission is judged."""
    body: dict[str, object] = {
        "name": name,
        "head_sha": head_sha,
        "status": "in_progress",
        "external_id": submission.id,
        "started_at": _time(submission),
        "output": {
            "title": "The checkpoint is being judged",
            "summary": f"Submission {submission.id}, policy {submission.policy}.",
        },
    }
    return body | ({"details_url": link} if link else {})


def check_run_completed(
    submission: Submission, verdict: Verdict | None, report: str | None
) -> dict[str, object]:
    """Body that completes the check run."""
    body: dict[str, object] = {
        "status": "completed",
        "conclusion": conclusion_of(submission, verdict),
        "output": {
            "title": _title(submission, verdict),
            "summary": _bounded(_sentences(submission, verdict, report), LONGEST_SUMMARY),
        },
    }
    return body | ({"details_url": report} if report else {})


def conclusion_of(submission: Submission, verdict: Verdict | None) -> str:
    """The conclusion that says the same as the verdict.

    Only ``success`` and ``neutral`` let a required check through. An inconclusive verdict is
    ``neutral`` where the policy releases it, and else asks for a person.
    """
    if verdict is None:
        return "cancelled" if submission.state is State.CANCELLED else "failure"
    if verdict.outcome is Outcome.INCONCLUSIVE:
        return "neutral" if verdict.release is Release.ALLOW else "action_required"
    return "success" if verdict.outcome is Outcome.PASS else "failure"


def _title(submission: Submission, verdict: Verdict | None) -> str:
    if verdict is not None:
        return f"Verdict: {verdict.outcome.value}"
    if submission.state is State.CANCELLED:
        return "The submission was cancelled"
    return "The gate could not judge the checkpoint"


def _sentences(submission: Submission, verdict: Verdict | None, report: str | None) -> str:
    lines = [f"{_title(submission, verdict)}."]
    if verdict is not None:
        lines += [f"Policy {verdict.policy}; {verdict.scope}; {verdict.samples} samples."]
        lines += [f"- {reason}" for reason in verdict.reasons]
    elif submission.error:
        lines += [submission.error]
    place = f"Report: {report}" if report else f"Submission: {submission.id}"
    # The place comes second, so that a bound on the length cannot cut it off.
    return "\n".join([lines[0], place, *lines[1:]])


def _bounded(text: str, longest: int) -> str:
    plain = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def _installation(payload: object) -> int:
    found = value_at(payload, Path(("installation", "id")))
    if not re.fullmatch(r"[1-9][0-9]{0,18}", found):
        raise PayloadError("installation.id is not the number of an installation")
    return int(found)


def _repository(payload: object) -> str:
    found = value_at(payload, Path(("repository", "full_name")))
    if not _REPOSITORY.fullmatch(found) or ".." in found:
        raise PayloadError("repository.full_name is not the name of a repository")
    return found


def _time(submission: Submission) -> str:
    return submission.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
