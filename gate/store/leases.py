"""Which submissions wait, and who holds one: the statements behind a worker's lease."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from gate.store.tables import SubmissionRow
from gate.submission import COMMAND_LINE, TERMINAL, State

_DONE = [state.value for state in TERMINAL]


def waiting(session: Session, limit: int | None) -> list[str]:
    """Ids of submissions that have not ended and that nobody holds, oldest first.

    Those of the command line are not among them: they end with their process. Nor are those that
    were postponed to a later time.
    """
    now = datetime.now(UTC)
    return list(
        session.scalars(
            select(SubmissionRow.id)
            .where(
                SubmissionRow.state.not_in(_DONE),
                SubmissionRow.source != COMMAND_LINE,
                or_(
                    SubmissionRow.lease_owner.is_(None),
                    SubmissionRow.lease_expires_at < now,
                ),
                or_(SubmissionRow.not_before.is_(None), SubmissionRow.not_before <= now),
            )
            .order_by(SubmissionRow.created_at)
            .limit(limit)
        )
    )


def acquire(session: Session, submission_id: str, owner: str, seconds: float) -> bool:
    """Take or renew the lease; False while another owner holds it, or once it has ended."""
    now = datetime.now(UTC)
    taken = session.execute(
        update(SubmissionRow)
        .where(
            SubmissionRow.id == submission_id,
            SubmissionRow.state.not_in(_DONE),
            or_(
                SubmissionRow.lease_owner.is_(None),
                SubmissionRow.lease_owner == owner,
                SubmissionRow.lease_expires_at < now,
            ),
        )
        .values(lease_owner=owner, lease_expires_at=now + timedelta(seconds=seconds))
        .returning(SubmissionRow.id)
    ).all()
    return bool(taken)


def renew(session: Session, submission_id: str, owner: str, seconds: float) -> State | None:
    """Renew the lease and say in what state the submission is; None if the lease is lost."""
    later = datetime.now(UTC) + timedelta(seconds=seconds)
    state = session.execute(
        update(SubmissionRow)
        .where(SubmissionRow.id == submission_id, SubmissionRow.lease_owner == owner)
        .values(lease_expires_at=later)
        .returning(SubmissionRow.state)
    ).scalar_one_or_none()
    return State(state) if state is not None else None


def release(session: Session, submission_id: str, owner: str) -> None:
    """Give the lease back, if this owner holds it."""
    session.execute(
        update(SubmissionRow)
        .where(SubmissionRow.id == submission_id, SubmissionRow.lease_owner == owner)
        .values(lease_owner=None, lease_expires_at=None)
    )
