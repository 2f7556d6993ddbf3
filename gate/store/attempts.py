"""What became of the attempts at a submission, so that whoever gives up can say why."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from gate.store.attempt_tables import AttemptRow
from gate.store.tables import SubmissionRow


def begin(session: Session, submission_id: str, worker: str) -> None:
    """Note that a worker begins, and that the attempt before, if still open, came to nothing."""
    before = _open(session, submission_id)
    if before is not None:
        before.ended_as = _vanished(session.get_one(SubmissionRow, submission_id))
    session.add(AttemptRow(submission_id=submission_id, worker=worker, began_at=datetime.now(UTC)))


def end(session: Session, submission_id: str, ended_as: str) -> None:
    """Note what ended the open attempt."""
    row = _open(session, submission_id)
    if row is not None:
        row.ended_as = ended_as


def take_back(session: Session, submission_id: str) -> None:
    """Forget the open attempt: it did not count."""
    row = _open(session, submission_id)
    if row is not None:
        session.execute(delete(AttemptRow).where(AttemptRow.id == row.id))


def past(session: Session, submission_id: str) -> list[str]:
    """All attempts that are over, in words, oldest first."""
    rows = session.scalars(
        select(AttemptRow)
        .where(AttemptRow.submission_id == submission_id, AttemptRow.ended_as.is_not(None))
        .order_by(AttemptRow.id)
    )
    return [f"{row.worker or 'a worker'} {row.ended_as}" for row in rows]


def _open(session: Session, submission_id: str) -> AttemptRow | None:
    return session.scalars(
        select(AttemptRow)
        .where(AttemptRow.submission_id == submission_id, AttemptRow.ended_as.is_(None))
        .order_by(AttemptRow.id.desc())
        .limit(1)
    ).first()


def _vanished(submission: SubmissionRow) -> str:
    """All that is left of a worker that was killed: how far it had come."""
    progress = submission.progress
    far = f" at {progress['done']} of {progress['total']} {progress['what']}" if progress else ""
    return f"vanished without a word while {submission.state}{far}"
