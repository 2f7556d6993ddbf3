"""What happened to a submission since a listener last looked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from gate.store.tables import SubmissionRow, TransitionRow
from gate.submission import TERMINAL, Progress, State


@dataclass(frozen=True)
class Move:
    """One move of the state, with the number by which moves are ordered."""

    number: int
    state: State
    at: datetime


@dataclass(frozen=True)
class News:
    """The moves that are new, and how the submission is now.

    ``ended`` says that the listener has been told of the end before: there will be no more.
    """

    moves: tuple[Move, ...]
    progress: Progress | None
    outcome: str | None
    error: str | None
    ended: bool


class EventRecord:
    """Reads what listeners are told. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def since(self, submission_id: str, number: int) -> News:
        """Moves with a higher number, in order.

        The moves are read before the submission, so that outcome and error of a last move are
        there when the move is.
        """
        with Session(self._engine) as session:
            moves = tuple(
                Move(row.id, State(row.state), row.at)
                for row in session.scalars(
                    select(TransitionRow)
                    .where(TransitionRow.submission_id == submission_id, TransitionRow.id > number)
                    .order_by(TransitionRow.id)
                )
            )
            progress, outcome, error = session.execute(
                select(SubmissionRow.progress, SubmissionRow.outcome, SubmissionRow.error).where(
                    SubmissionRow.id == submission_id
                )
            ).one()
            ended = not moves and self._told_the_end(session, submission_id, number)
        return News(
            moves, Progress.model_validate(progress) if progress else None, outcome, error, ended
        )

    @staticmethod
    def _told_the_end(session: Session, submission_id: str, number: int) -> bool:
        last = session.scalar(
            select(TransitionRow.id).where(
                TransitionRow.submission_id == submission_id,
                TransitionRow.id <= number,
                TransitionRow.state.in_([state.value for state in TERMINAL]),
            )
        )
        return last is not None
