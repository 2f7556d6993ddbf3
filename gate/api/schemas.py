"""What the API answers with, where it differs from the domain types."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from gate.submission import Progress, State, Submission, Transition


class SubmissionView(BaseModel):
    """A submission and how far it is."""

    id: str
    state: State
    outcome: str | None = Field(description="pass, fail or inconclusive; null until decided.")
    error: str | None = Field(description="Why the gate could not judge; null otherwise.")
    checkpoint: str
    base: str | None
    policy: str
    metadata: dict[str, str]
    training_sample_digest: str | None
    created_at: datetime
    progress: Progress | None = Field(description="Within the current stage.")
    stages: list[Transition] = Field(description="Every state with the time it was entered (UTC).")
    links: dict[str, str]

    @classmethod
    def of(cls, submission: Submission) -> SubmissionView:
        """The view of a recorded submission."""
        here = f"/v1/submissions/{submission.id}"
        links = {"self": here}
        if submission.state is State.DECIDED:
            links |= {"verdict": f"{here}/verdict", "report": f"{here}/report"}
        return cls(
            **submission.model_dump(
                include={
                    "id",
                    "state",
                    "outcome",
                    "error",
                    "checkpoint",
                    "base",
                    "policy",
                    "metadata",
                    "training_sample_digest",
                    "created_at",
                }
            ),
            progress=submission.progress,
            stages=submission.transitions,
            links=links,
        )


class SubmissionPage(BaseModel):
    """A page of submissions, newest first."""

    items: list[SubmissionView]
    total: int
    limit: int
    offset: int
