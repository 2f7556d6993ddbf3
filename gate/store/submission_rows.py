"""Submissions as rows: how one is first written, and how one is read."""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime
from typing import cast

from sqlalchemy import Connection, Table, insert
from sqlalchemy.orm import Session

from gate.store.database import put
from gate.store.tables import SubmissionRow, TrainingSampleRow, TransitionRow, clean
from gate.submission import (
    DeclaredContext,
    Progress,
    State,
    Submission,
    SubmissionRequest,
    Transition,
)
from gate.tracing import traces

# Made once: what is cached of a statement stays with it.
_NEW_SUBMISSION = insert(cast(Table, SubmissionRow.__table__))
_NEW_TRANSITION = insert(cast(Table, TransitionRow.__table__))


def write_new(
    session: Session,
    request: SubmissionRequest,
    source: str,
    submitted_by: str | None,
    now: datetime,
) -> Submission:
    """Write a new submission in state ``queued``, with its first transition and its sample."""
    sample = request.training_sample
    made = Submission(
        id=f"sub_{uuid.uuid4().hex}",
        state=State.QUEUED,
        checkpoint=request.checkpoint,
        base=request.base,
        policy=request.policy,
        battery=request.battery,
        contexts=request.contexts,
        metadata=request.metadata,
        training_sample_digest=_keep_by_digest(session, sample) if sample else None,
        source=source,
        submitted_by=submitted_by,
        fresh=request.fresh,
        created_at=now,
        attempts=0,
        postponements=0,
        not_before=None,
        progress=None,
        outcome=None,
        error=None,
        traceparent=traces().traceparent(),
        transitions=[Transition(state=State.QUEUED, at=now)],
    )
    _insert(session.connection(), made)
    return made


def submission_of(row: SubmissionRow) -> Submission:
    """A submission that was read, as the domain knows it."""
    return Submission(
        id=row.id,
        state=State(row.state),
        checkpoint=row.checkpoint,
        base=row.base,
        policy=row.policy,
        battery=row.battery,
        contexts=[DeclaredContext.model_validate(context) for context in row.contexts],
        metadata=row.details,
        training_sample_digest=row.training_sample_digest,
        source=row.source,
        submitted_by=row.submitted_by,
        fresh=row.fresh,
        created_at=row.created_at,
        attempts=row.attempts,
        postponements=row.postponements,
        not_before=row.not_before,
        progress=Progress.model_validate(row.progress) if row.progress else None,
        outcome=row.outcome,
        error=row.error,
        standing_since=row.standing_since,
        traceparent=row.traceparent,
        transitions=[Transition(state=State(m.state), at=m.at) for m in row.transitions],
    )


def _insert(connection: Connection, made: Submission) -> None:
    """Insert a submission and its first transition by plain statements.

    This is the hot path of the API, and the unit of work costs more than the statements.
    """
    columns = made.model_dump(exclude={"state", "standing_since", "transitions"})
    connection.execute(_NEW_SUBMISSION, columns | {"state": made.state.value})
    moves = [
        {"submission_id": made.id, "state": move.state.value, "at": move.at}
        for move in made.transitions
    ]
    connection.execute(_NEW_TRANSITION, moves)


def _keep_by_digest(session: Session, content: str) -> str:
    content = clean(content)
    digest = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
    # Written even if it is there: its content may have been deleted, and the write keeps whoever
    # wants to delete it now waiting until this submission is recorded.
    put(session, TrainingSampleRow, {"digest": digest, "content": content})
    return digest
