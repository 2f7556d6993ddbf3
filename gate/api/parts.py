"""What the API is made of, and how routes get at it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Path, Request

from gate.api.listeners import Listeners
from gate.api.problems import NO_VERDICT, UNKNOWN_SUBMISSION, ProblemError
from gate.settings import Settings
from gate.store.audit import PendingEntry
from gate.store.submissions import SubmissionRecord, UnknownSubmissionError
from gate.store.transcripts import TranscriptRecord
from gate.submission import State, Submission
from gate.tasks import TaskQueue
from gate.verdict import Verdict

_SUBMISSION_ID = re.compile(r"sub_[0-9a-f]{32}")


@dataclass(frozen=True)
class Parts:
    """Settings, record and queue of one API process, and who listens to it."""

    settings: Settings
    submissions: SubmissionRecord
    transcripts: TranscriptRecord
    queue: TaskQueue
    listeners: Listeners = field(default_factory=Listeners)


@dataclass(frozen=True)
class Asked:
    """A request for a change: of what parts, by whom, and its entry of the audit log.

    ``audit`` is to be written together with the change; None where the log has the row already.
    """

    parts: Parts
    actor: str
    audit: PendingEntry | None = None

    @classmethod
    def of(cls, request: Request) -> Asked:
        """What a route is asked, without the price of a dependency for each part of it."""
        return cls(request.app.state.parts, request.state.actor, request.state.audit)


# These two wait for nothing; were they not coroutines, each would be sent to a thread and back.
async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


async def _actor(request: Request) -> str:
    actor: str = getattr(request.state, "actor", "anonymous")
    return actor


PartsOfApp = Annotated[Parts, Depends(_parts)]
#: Who asks, as the access rules found out.
Actor = Annotated[str, Depends(_actor)]
SubmissionId = Annotated[
    str,
    Path(description="Id of the submission.", examples=["sub_5f0c8a4e9b7d4c1e8f6a2b3c4d5e6f70"]),
]


def find_submission(parts: Parts, submission_id: str) -> Submission:
    """The submission of that id.

    Raises:
        ProblemError: there is none.
    """
    try:
        # What cannot be an id, such as one with a NUL, is not shown to the database.
        if not _SUBMISSION_ID.fullmatch(submission_id):
            raise UnknownSubmissionError(submission_id)
        return parts.submissions.get(submission_id)
    except UnknownSubmissionError as error:
        raise ProblemError.of(
            UNKNOWN_SUBMISSION, f"There is no submission '{submission_id}'."
        ) from error


def find_verdict(parts: Parts, submission: Submission) -> Verdict:
    """The verdict of a submission.

    Raises:
        ProblemError: there is none, with the state that the submission is in.
    """
    found = parts.submissions.verdict(submission.id)
    if found is None:
        detail = f"The submission is {submission.state}."
        if submission.state is State.FAILED:
            detail = f"The gate could not judge this submission: {submission.error}"
        raise ProblemError.of(NO_VERDICT, detail)
    return found


def _found(parts: PartsOfApp, submission_id: SubmissionId) -> Submission:
    return find_submission(parts, submission_id)


#: The submission that the path names; a 404 problem if there is none.
FoundSubmission = Annotated[Submission, Depends(_found)]
