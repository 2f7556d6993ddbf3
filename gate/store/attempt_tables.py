"""The table of attempts: which worker ran a submission when, and what ended it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from gate.store.tables import BigId, ForeignText, Table, UtcDateTime


class AttemptRow(Table):
    """One run of a submission.

    ``ended_as`` says what became of it. It is empty while the attempt runs, and of an attempt
    whose worker vanished the next one fills it in.
    """

    __tablename__ = "attempts"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), index=True)
    worker: Mapped[str]
    began_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_as: Mapped[str | None] = mapped_column(ForeignText)
