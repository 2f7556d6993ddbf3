"""Which messages a change of a submission's state makes. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gate.hooks.config import Endpoint, Event, Hooks
from gate.submission import State, Submission
from gate.verdict import Verdict

#: Longest error that a message carries, in characters.
LONGEST_ERROR = 2000


@dataclass(frozen=True)
class Message:
    """One message to one endpoint. The same change always makes the same id."""

    target: str
    id: str
    event: Event
    payload: dict[str, Any]


@dataclass(frozen=True)
class Outbox:
    """Who is told of what. Without endpoints nobody is."""

    endpoints: tuple[Endpoint, ...] = ()
    public_url: str | None = None

    @classmethod
    def of(cls, hooks: Hooks) -> Outbox:
        """The outbox that a hooks file describes."""
        return cls(tuple(hooks.send), hooks.public_url)

    def messages(
        self, submission: Submission, at: datetime, verdict: Verdict | None = None
    ) -> list[Message]:
        """What the move into the submission's present state at this time makes.

        Law: equal arguments make equal messages, so that writing them twice writes them once.
        """
        made = []
        for event in events_of(submission.state):
            told = [endpoint.name for endpoint in self.endpoints if event in endpoint.events]
            if told:
                identity = message_id(submission, event)
                payload = payload_of(event, submission, at, verdict, self.public_url)
                made += [Message(name, identity, event, payload) for name in told]
        return made


def events_of(state: State) -> tuple[Event, ...]:
    """The events of a move into a state."""
    special = {
        State.DECIDED: Event.VERDICT_CREATED,
        State.FAILED: Event.FAILED,
        State.CANCELLED: Event.CANCELLED,
    }
    return (Event.STATE_CHANGED, special[state]) if state in special else (Event.STATE_CHANGED,)


def message_id(submission: Submission, event: Event) -> str:
    """``msg_…``: a submission enters each state at most once, so this names the message."""
    named = f"{submission.id}/{event}/{submission.state}".encode()
    return "msg_" + hashlib.sha256(named).hexdigest()[:32]


def payload_of(
    event: Event,
    submission: Submission,
    at: datetime,
    verdict: Verdict | None,
    public_url: str | None,
) -> dict[str, Any]:
    """The body: type, time and data, as Standard Webhooks recommends."""
    data: dict[str, Any] = {
        "submission_id": submission.id,
        "state": submission.state.value,
        "outcome": submission.outcome,
        "error": submission.error[:LONGEST_ERROR] if submission.error else None,
        "checkpoint": submission.checkpoint,
        "base": submission.base,
        "policy": submission.policy,
        "source": submission.source,
        "metadata": submission.metadata,
        "links": links_of(submission, public_url),
    }
    if verdict is not None:
        shown = {"outcome", "release", "reasons", "scope", "samples", "policy", "digests"}
        data["verdict"] = verdict.model_dump(mode="json", include=shown)
    return {"type": event.value, "timestamp": at.isoformat(), "data": data}


def links_of(submission: Submission, public_url: str | None) -> dict[str, str]:
    """Where the submission and, once there is one, its verdict and report are."""
    here = f"{public_url or ''}/v1/submissions/{submission.id}"
    if submission.state is not State.DECIDED:
        return {"self": here}
    return {"self": here, "verdict": f"{here}/verdict", "report": f"{here}/report"}


def report_link(submission: Submission, public_url: str | None) -> str | None:
    """Absolute address of the report, or of the submission where there is none; None unset."""
    if public_url is None:
        return None
    links = links_of(submission, public_url)
    return links.get("report", links["self"])
