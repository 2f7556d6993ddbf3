"""Finding submissions in the record: by what they are, in pages that stay good under inserts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, func, or_, select, tuple_
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.sql import ColumnElement

from gate.store.tables import SubmissionRow, TranscriptRow, VerdictRow

_DIGEST_PREFIX = "sha256:"
T = TypeVar("T", bound=Any)


@dataclass(frozen=True)
class Filters:
    """What submissions are looked for; None and empty let everything through.

    ``checkpoint`` is what was submitted, or the digest of its content. Every pair of ``metadata``
    must be there.
    """

    state: str | None = None
    outcome: str | None = None
    checkpoint: str | None = None
    source: str | None = None
    metadata: Sequence[tuple[str, str]] = ()


def page_of_submissions(
    session: Session, filters: Filters, limit: int, after: tuple[datetime, str] | None
) -> tuple[list[SubmissionRow], tuple[datetime, str] | None]:
    """One page, newest first, and the place after which the next one begins, if there is more."""
    wanted = _matching(session, select(SubmissionRow), filters)
    order = (SubmissionRow.created_at, SubmissionRow.id)
    if after is not None:
        wanted = wanted.where(tuple_(*order) < tuple_(*after, types=[c.type for c in order]))
    rows = list(
        session.scalars(
            wanted.options(selectinload(SubmissionRow.transitions))
            .order_by(*(column.desc() for column in order))
            .limit(limit + 1)
        )
    )
    page = rows[:limit]
    more = len(rows) > limit
    return page, (page[-1].created_at, page[-1].id) if more else None


def _matching(session: Session, wanted: Select[T], filters: Filters) -> Select[T]:
    for column, value in (
        (SubmissionRow.state, filters.state),
        (SubmissionRow.outcome, filters.outcome),
        (SubmissionRow.source, filters.source),
    ):
        if value is not None:
            wanted = wanted.where(column == value)
    if filters.checkpoint is not None:
        wanted = wanted.where(_is_checkpoint(filters.checkpoint))
    for key, value in filters.metadata:
        wanted = wanted.where(_has_metadata(session, key, value))
    return wanted


def _is_checkpoint(checkpoint: str) -> ColumnElement[bool]:
    if not checkpoint.startswith(_DIGEST_PREFIX):
        return SubmissionRow.checkpoint == checkpoint
    transcripts = select(TranscriptRow.id).where(TranscriptRow.checkpoint_digest == checkpoint)
    judged = select(VerdictRow.submission_id).where(VerdictRow.checkpoint_digest == checkpoint)
    return or_(SubmissionRow.candidate_transcript.in_(transcripts), SubmissionRow.id.in_(judged))


def _has_metadata(session: Session, key: str, value: str) -> ColumnElement[bool]:
    """Compared pair by pair: a key inside a JSON path would have to be quoted."""
    postgresql = session.get_bind().dialect.name == "postgresql"
    pairs_of = func.json_each_text if postgresql else func.json_each
    pairs = pairs_of(SubmissionRow.details).table_valued("key", "value")
    return select(1).select_from(pairs).where(pairs.c.key == key, pairs.c.value == value).exists()
