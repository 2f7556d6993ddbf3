"""Samples of a transcript in pages, with one judge's ratings."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from checks.sample import Sample
from gate.store.tables import JudgementRow, SampleRow
from gate.store.transcripts import sample_of


@dataclass(frozen=True)
class StoredSample:
    """A sample with its number in the record, by which samples are ordered."""

    number: int
    sample: Sample


class SamplePages:
    """Reads samples. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(
        self,
        transcript: str,
        judge_digest: str | None,
        limit: int,
        after: int = 0,
        check: str | None = None,
        label: str | None = None,
    ) -> tuple[list[StoredSample], int | None]:
        """Samples in the order they came, and the number after which more begin, if any.

        Args:
            transcript: whose samples.
            judge_digest: whose ratings; None for none.
            limit: most samples on the page.
            after: only those with a higher number.
            check: only those of this check.
            label: only those that the judge gave this label.
        """
        wanted = (
            select(SampleRow, JudgementRow)
            .outerjoin(
                JudgementRow,
                (JudgementRow.sample_id == SampleRow.id)
                & (JudgementRow.judge_digest == (judge_digest or "")),
            )
            .where(SampleRow.transcript_id == transcript, SampleRow.id > after)
            .order_by(SampleRow.id)
            .limit(limit + 1)
        )
        if check is not None:
            wanted = wanted.where(SampleRow.key.startswith(f"{check}/", autoescape=True))
        if label is not None:
            wanted = wanted.where(JudgementRow.label == label)
        with Session(self._engine) as session:
            rows = [
                StoredSample(sample.id, sample_of(sample, judgement))
                for sample, judgement in session.execute(wanted)
            ]
        page = rows[:limit]
        return page, page[-1].number if len(rows) > limit else None

    def judge_of(self, transcript: str) -> str | None:
        """The digest of the judge that rated an answer of this transcript last."""
        with Session(self._engine) as session:
            return session.scalar(
                select(JudgementRow.judge_digest)
                .join(SampleRow, JudgementRow.sample_id == SampleRow.id)
                .where(SampleRow.transcript_id == transcript)
                .order_by(JudgementRow.id.desc())
                .limit(1)
            )
