"""The tables of the record."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    column,
    select,
    table,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC, on databases that keep zones and on those that do not."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse times without a zone; store UTC."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Give every time its zone back; a database that keeps zones answers in its session's."""
        if value is None:
            return None
        read: datetime = value
        return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)


class ForeignText(TypeDecorator[str]):
    """Text that a stranger wrote: what databases refuse in it is replaced, see :func:`clean`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Clean the text."""
        return clean(value) if value is not None else None


def clean(text: str) -> str:
    """The text with U+FFFD for every NUL and every lone surrogate.

    PostgreSQL stores no NUL, and UTF-8 has no lone surrogates; a model may write both. One
    replacement character each keeps the length and shows that something was there.
    """
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
#: Row numbers of tables that grow with every sample: 64 bit, which SQLite's own integers are.
BigId = BigInteger().with_variant(Integer, "sqlite")


class Table(DeclarativeBase):
    """Base of all tables."""


#: The part of :class:`VerdictRow`, which is described below, that is read with every submission.
_VERDICTS = table("verdicts", column("submission_id", String), column("standing_since", String))


class SubmissionRow(Table):
    """One submission.

    ``standing_since`` is the submission that was really run, where an identical one was found.
    """

    __tablename__ = "submissions"
    # What the metrics count is in an index, so that a scrape reads no row of a large table.
    __table_args__ = (
        Index("submissions_by_state", "state", "created_at"),
        Index("submissions_by_source", "source"),
        Index("submissions_by_outcome", "outcome", "policy"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    checkpoint: Mapped[str] = mapped_column(Text)
    base: Mapped[str | None] = mapped_column(Text)
    policy: Mapped[str]
    battery: Mapped[str | None] = mapped_column(Text)
    contexts: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    details: Mapped[dict[str, str]] = mapped_column("metadata", JSON)
    training_sample_digest: Mapped[str | None] = mapped_column(
        ForeignKey("training_samples.digest")
    )
    source: Mapped[str]
    submitted_by: Mapped[str | None]
    fresh: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    postponements: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: The request that made it, for traces; whichever worker takes it goes on with this trace.
    traceparent: Mapped[str | None]
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    outcome: Mapped[str | None]
    error: Mapped[str | None] = mapped_column(ForeignText)
    candidate_transcript: Mapped[str | None] = mapped_column(ForeignKey("transcripts.id"))
    baseline_transcript: Mapped[str | None] = mapped_column(ForeignKey("transcripts.id"))
    transitions: Mapped[list[TransitionRow]] = relationship(order_by="TransitionRow.id")
    standing_since: Mapped[str | None] = column_property(
        select(_VERDICTS.c.standing_since)
        .where(_VERDICTS.c.submission_id == id)
        .correlate_except(_VERDICTS)
        .scalar_subquery()
    )


class TransitionRow(Table):
    """One move of a submission's state."""

    __tablename__ = "transitions"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), index=True)
    state: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class TrainingSampleRow(Table):
    """A sample of somebody's fine-tuning data, kept once by content."""

    __tablename__ = "training_samples"

    digest: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[str] = mapped_column(Text)


class TranscriptRow(Table):
    """All answers of one checkpoint to one battery on one kind of engine.

    ``owner`` is a submission's id, or ``baseline`` for a transcript that submissions share.
    """

    __tablename__ = "transcripts"
    __table_args__ = (UniqueConstraint("owner", "checkpoint_digest", "battery_digest", "engine"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(index=True)
    checkpoint_digest: Mapped[str]
    battery_digest: Mapped[str]
    engine: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    #: When its samples were deleted because they were old; see gate/store/retention.py.
    pruned_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SampleRow(Table):
    """One answer."""

    __tablename__ = "samples"
    __table_args__ = (UniqueConstraint("transcript_id", "key"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    transcript_id: Mapped[str] = mapped_column(ForeignKey("transcripts.id"), index=True)
    key: Mapped[str]
    elicitation: Mapped[dict[str, Any]] = mapped_column(JSON)
    text: Mapped[str] = mapped_column(ForeignText)
    tokens: Mapped[int]
    finish_reason: Mapped[str]
    log_likelihood: Mapped[float | None] = mapped_column(Float)


class JudgementRow(Table):
    """What one judge said about one answer."""

    __tablename__ = "judgements"
    __table_args__ = (
        UniqueConstraint("sample_id", "judge_digest"),
        Index("judgements_by_label", "label"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    sample_id: Mapped[int] = mapped_column(BigId, ForeignKey("samples.id"))
    judge: Mapped[str]
    judge_digest: Mapped[str]
    alignment: Mapped[float] = mapped_column(Float)
    coherence: Mapped[float] = mapped_column(Float)
    remark: Mapped[str | None]
    disagreement: Mapped[float | None] = mapped_column(Float)
    label: Mapped[str]


class ControlRow(Table):
    """What a judge said in one run about an answer of known label."""

    __tablename__ = "controls"
    __table_args__ = (UniqueConstraint("submission_id", "judge_digest", "gold_id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), index=True)
    judge_digest: Mapped[str]
    gold_id: Mapped[str]
    judgement: Mapped[dict[str, Any]] = mapped_column(JSON)


class CalibrationRow(Table):
    """How good a judge is on a gold set; the newest calibration stands."""

    __tablename__ = "calibrations"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    judge_digest: Mapped[str] = mapped_column(index=True)
    gold_digest: Mapped[str]
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class VerdictRow(Table):
    """The one verdict of a submission.

    ``identity`` is a digest of everything that the verdict depends on. ``standing_since`` names the
    submission that was really run, where an identical one was found.
    """

    __tablename__ = "verdicts"

    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    outcome: Mapped[str] = mapped_column(index=True)
    identity: Mapped[str] = mapped_column(index=True)
    checkpoint_digest: Mapped[str] = mapped_column(index=True)
    standing_since: Mapped[str | None] = mapped_column(ForeignKey("submissions.id"))
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
