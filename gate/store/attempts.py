"""What became of the attempts at a submission, so that whoever gives up can say why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from gate.store.attempt_tables import AttemptRow
from gate.store.tables import SubmissionRow


def begin(session: Session, submission_id: str, worker: str) -> int | None:
    """Count an attempt and note who begins; how many there have been, None without the submission.

    The attempt before, if still open, came to nothing.
    """
    counted = session.execute(
        update(SubmissionRow)
        .where(SubmissionRow.id == submission_id)
        .values(attempts=SubmissionRow.attempts + 1)
        .returning(SubmissionRow.attempts)
    ).scalar_one_or_none()
    if counted is None:
        return None
    before = _open(session, submission_id)
    if before is not None:
        before.ended_as = _vanished(session.get_one(SubmissionRow, submission_id))
    session.add(AttemptRow(submission_id=submission_id, worker=worker, began_at=datetime.now(UTC)))
    return counted


def end(session: Session, submission_id: str, ended_as: str) -> None:
    """Note what ended the open attempt."""
    row = _open(session, submission_id)
    if row is not None:
        row.ended_as = ended_as


def take_back(session: Session, submission_id: str) -> None:
    """Do not count the open attempt, and forget it."""
    session.execute(
        update(SubmissionRow)
        .where(SubmissionRow.id == submission_id)
        .values(attempts=SubmissionRow.attempts - 1)
    )
    row = _open(session, submission_id)
    if row is not None:
        session.execute(delete(AttemptRow).where(AttemptRow.id == row.id))


def postpone(session: Session, submission_id: str, seconds: float) -> int:
    """Take the open attempt back and let the submission wait; how often it had to wait so far."""
    take_back(session, submission_id)
    return session.execute(
        update(SubmissionRow)
        .where(SubmissionRow.id == submission_id)
        .values(
            postponements=SubmissionRow.postponements + 1,
            not_before=datetime.now(UTC) + timedelta(seconds=seconds),
        )
        .returning(SubmissionRow.postponements)
    ).scalar_one()


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
