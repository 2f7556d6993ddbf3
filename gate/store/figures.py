"""Counts and ages of the record, as its metrics show them: one query each, over an index."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine, func, or_, select
from sqlalchemy.orm import Session

from gate.store.tables import SubmissionRow
from gate.submission import COMMAND_LINE, TERMINAL, State


class Figures:
    """Counts submissions. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def by_source(self) -> dict[str, int]:
        """Submissions ever made."""
        query = select(SubmissionRow.source, func.count()).group_by(SubmissionRow.source)
        with Session(self._engine) as session:
            return {row[0]: row[1] for row in session.execute(query)}

    def by_state(self) -> dict[State, int]:
        """Submissions in each state, those without any included."""
        query = select(SubmissionRow.state, func.count()).group_by(SubmissionRow.state)
        with Session(self._engine) as session:
            counted = {State(state): number for state, number in session.execute(query)}
            return dict.fromkeys(State, 0) | counted

    def by_outcome(self) -> dict[tuple[str, str], int]:
        """Verdicts ever given, by the policy that was submitted and the outcome."""
        query = (
            select(SubmissionRow.outcome, SubmissionRow.policy, func.count())
            .where(SubmissionRow.outcome.is_not(None))
            .group_by(SubmissionRow.outcome, SubmissionRow.policy)
        )
        with Session(self._engine) as session:
            return {(row[1], row[0] or ""): row[2] for row in session.execute(query)}

    def oldest_waiting(self, now: datetime) -> datetime | None:
        """When the oldest submission was made that a worker could take now; None without one.

        Asked state by state, so that the index ends each look at its first row.
        """
        with Session(self._engine) as session:
            found = [
                session.scalar(
                    select(SubmissionRow.created_at)
                    .where(
                        SubmissionRow.state == state.value,
                        SubmissionRow.source != COMMAND_LINE,
                        or_(
                            SubmissionRow.lease_owner.is_(None),
                            SubmissionRow.lease_expires_at < now,
                        ),
                        or_(SubmissionRow.not_before.is_(None), SubmissionRow.not_before <= now),
                    )
                    .order_by(SubmissionRow.created_at)
                    .limit(1)
                )
                for state in State
                if state not in TERMINAL
            ]
        return min((at.astimezone(UTC) for at in found if at), default=None)
