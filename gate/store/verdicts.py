"""Verdicts in the record by what they depend on: what stands, and what is known of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, select, tuple_
from sqlalchemy.orm import Session

from gate.store.tables import SubmissionRow, VerdictRow
from gate.verdict import Verdict


@dataclass(frozen=True)
class KnownVerdict:
    """A verdict with the submission that got it.

    ``standing_since`` is the submission that was really run, where this one was not.
    """

    submission_id: str
    created_at: datetime
    standing_since: str | None
    verdict: Verdict


@dataclass(frozen=True)
class JudgedBy:
    """What verdicts have to have been reached by; None is any.

    ``policy`` is its name and version as verdicts show it, the others are content digests.
    """

    policy: str | None = None
    base: str | None = None
    battery: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Conditions on the stored document; the few verdicts on one content need no index."""
        digests = VerdictRow.document["digests"]
        fields = (
            (VerdictRow.document["policy"], self.policy),
            (digests["base"], self.base),
            (digests["battery"], self.battery),
        )
        return [field.as_string() == wanted for field, wanted in fields if wanted is not None]


ANYHOW = JudgedBy()


class VerdictRecord:
    """Reads verdicts. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def newest_run(self, identity: str) -> KnownVerdict | None:
        """The newest verdict of this identity that a run has given."""
        with Session(self._engine) as session:
            row = session.scalars(
                select(VerdictRow)
                .where(VerdictRow.identity == identity, VerdictRow.standing_since.is_(None))
                .order_by(VerdictRow.created_at.desc(), VerdictRow.submission_id.desc())
                .limit(1)
            ).first()
            return _known(row) if row else None

    def of_checkpoint(
        self,
        digest: str,
        limit: int,
        after: tuple[datetime, str] | None,
        judged_by: JudgedBy = ANYHOW,
    ) -> tuple[list[KnownVerdict], tuple[datetime, str] | None]:
        """Verdicts on this content, newest first, and the place after which more begin, if any."""
        order = (VerdictRow.created_at, VerdictRow.submission_id)
        wanted = select(VerdictRow).where(
            VerdictRow.checkpoint_digest == digest, *judged_by.conditions()
        )
        if after is not None:
            wanted = wanted.where(tuple_(*order) < tuple_(*after, types=[c.type for c in order]))
        with Session(self._engine) as session:
            rows = list(
                session.scalars(wanted.order_by(*(c.desc() for c in order)).limit(limit + 1))
            )
            page = [_known(row) for row in rows[:limit]]
        more = len(rows) > limit
        return page, (page[-1].created_at, page[-1].submission_id) if more else None


def transcripts_of(session: Session, submission_id: str) -> tuple[str | None, str | None]:
    """Ids of the candidate's and the baseline's transcript of a submission."""
    row = session.get(SubmissionRow, submission_id)
    return (row.candidate_transcript, row.baseline_transcript) if row else (None, None)


def _known(row: VerdictRow) -> KnownVerdict:
    return KnownVerdict(
        submission_id=row.submission_id,
        created_at=row.created_at,
        standing_since=row.standing_since,
        verdict=Verdict.model_validate(row.document),
    )
