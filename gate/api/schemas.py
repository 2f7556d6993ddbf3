"""What the API answers with, where it differs from the domain types."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from checks.judgement import Judgement, Label
from checks.sample import Message
from gate.policy import Policy
from gate.store.sample_pages import StoredSample
from gate.store.verdicts import KnownVerdict
from gate.submission import TERMINAL, Progress, State, Submission, Transition
from gate.verdict import Verdict

_SHOWN = {
    "id",
    "state",
    "outcome",
    "error",
    "checkpoint",
    "base",
    "policy",
    "battery",
    "metadata",
    "training_sample_digest",
    "source",
    "submitted_by",
    "fresh",
    "created_at",
    "attempts",
    "standing_since",
}


class SubmissionView(BaseModel):
    """A submission and how far it is."""

    id: str
    state: State
    outcome: str | None = Field(description="pass, fail or inconclusive; null until decided.")
    error: str | None = Field(description="Why the gate could not judge; null otherwise.")
    checkpoint: str
    base: str | None
    policy: str
    battery: str | None
    metadata: dict[str, str]
    training_sample_digest: str | None
    source: str = Field(description="Where it came from, such as api.")
    submitted_by: str | None
    fresh: bool
    created_at: datetime
    attempts: int = Field(description="Runs so far.")
    standing_since: str | None = Field(
        description="The submission that was really run, where its verdict answers this one too."
    )
    progress: Progress | None = Field(description="Within the current stage.")
    stages: list[Transition] = Field(description="Every state with the time it was entered (UTC).")
    links: dict[str, str]

    @classmethod
    def of(cls, submission: Submission) -> SubmissionView:
        """The view of a recorded submission."""
        here = f"/v1/submissions/{submission.id}"
        links = {"self": here, "events": f"{here}/events", "samples": f"{here}/samples"}
        if submission.state in TERMINAL:
            links["retry"] = f"{here}/retry"
        else:
            links["cancel"] = f"{here}/cancel"
        if submission.state is State.DECIDED:
            links |= {
                "verdict": f"{here}/verdict",
                "report": f"{here}/report",
                "junit": f"{here}/verdict.junit.xml",
            }
        return cls(
            **submission.model_dump(include=_SHOWN),
            progress=submission.progress,
            stages=submission.transitions,
            links=links,
        )


class SubmissionPage(BaseModel):
    """A page of submissions, newest first."""

    items: list[SubmissionView]
    next_cursor: str | None = Field(description="Null on the last page.")


class StateEvent(BaseModel):
    """What an event of a move says; outcome and error are null but for the last one."""

    state: State
    at: datetime
    outcome: str | None = None
    error: str | None = None


class SampleView(BaseModel):
    """One answer of a model, with the rating of the judge that decided."""

    id: int
    check: str
    prompt_id: str
    form: str
    repeat: int
    messages: tuple[Message, ...]
    text: str
    tokens: int
    finish_reason: str
    log_likelihood: float | None
    label: Label | None = Field(description="Null while no judge has rated it.")
    judgement: Judgement | None

    @classmethod
    def of(cls, stored: StoredSample) -> SampleView:
        """The view of a stored sample."""
        sample = stored.sample
        return cls(
            id=stored.number,
            check=sample.elicitation.check,
            prompt_id=sample.elicitation.prompt_id,
            form=sample.elicitation.form,
            repeat=sample.elicitation.repeat,
            messages=sample.elicitation.messages,
            text=sample.text,
            tokens=sample.tokens,
            finish_reason=sample.finish_reason,
            log_likelihood=sample.log_likelihood,
            label=sample.judgement.label if sample.judgement else None,
            judgement=sample.judgement,
        )


class SamplePage(BaseModel):
    """A page of samples, in the order they came."""

    items: list[SampleView]
    next_cursor: str | None = Field(description="Null on the last page.")


class KnownVerdictView(BaseModel):
    """A verdict with the submission that got it."""

    submission_id: str
    created_at: datetime
    standing_since: str | None
    verdict: Verdict

    @classmethod
    def of(cls, known: KnownVerdict) -> KnownVerdictView:
        """The view of a verdict in the record."""
        return cls(
            submission_id=known.submission_id,
            created_at=known.created_at,
            standing_since=known.standing_since,
            verdict=known.verdict,
        )


class VerdictPage(BaseModel):
    """A page of verdicts, newest first."""

    items: list[KnownVerdictView]
    next_cursor: str | None = Field(description="Null on the last page.")


class PolicyView(BaseModel):
    """A policy with its digest."""

    name: str
    digest: str
    policy: Policy

    @classmethod
    def of(cls, name: str, policy: Policy) -> PolicyView:
        """The view of a policy that submissions name so."""
        return cls(name=name, digest=policy.digest, policy=policy)


class PolicyItem(BaseModel):
    """A policy in the list; one whose file cannot be used says why instead."""

    name: str
    version: int | None = None
    description: str | None = None
    battery: str | None = None
    digest: str | None = None
    error: str | None = None


class PolicyList(BaseModel):
    """All policies that a submission can name."""

    items: list[PolicyItem]


class BatteryItem(BaseModel):
    """A battery in the list."""

    name: str
    version: int
    digest: str
    elicitations: int
    checks: list[str]


class BatteryList(BaseModel):
    """All batteries that a submission can name."""

    items: list[BatteryItem]


class ServiceView(BaseModel):
    """What answers here."""

    name: str
    version: str
    links: dict[str, str]
