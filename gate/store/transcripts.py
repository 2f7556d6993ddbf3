"""Transcripts in the record: answers as they come, and what judges said about them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from checks.judgement import Judge, Judgement, Remark
from checks.sample import Elicitation, Mode, Sample
from gate.store.database import insert_new
from gate.store.fence import Holder, fenced
from gate.store.patience import patient, waits_for_database
from gate.store.tables import JudgementRow, SampleRow, TranscriptRow

#: Owner of transcripts that submissions share.
BASELINE = "baseline"


@waits_for_database
class TranscriptRecord:
    """Stores and reads samples and judgements. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def under(self, holder: Holder, patience: float) -> TranscriptRecord:
        """The same for a run: it writes only while the holder holds its submission.

        Args:
            holder: who runs which submission.
            patience: how long to wait for a database that is away, in seconds.
        """
        return TranscriptRecord(patient(fenced(self._engine, holder), patience))

    def open(self, owner: str, checkpoint_digest: str, battery_digest: str, engine: str) -> str:
        """Id of the transcript with this identity, made if there is none."""
        identity = {
            "owner": owner,
            "checkpoint_digest": checkpoint_digest,
            "battery_digest": battery_digest,
            "engine": engine,
        }
        wanted = select(TranscriptRow.id).filter_by(**identity)
        try:
            with Session(self._engine) as session, session.begin():
                found = session.scalar(wanted)
                if found:
                    return found
                row = TranscriptRow(id=uuid.uuid4().hex, created_at=datetime.now(UTC), **identity)
                session.add(row)
                return row.id
        except IntegrityError:
            with Session(self._engine) as session:
                return session.scalars(wanted).one()

    def pruned_at(self, transcript: str) -> datetime | None:
        """When a transcript's samples were deleted because they were old; None if they are kept."""
        with Session(self._engine) as session:
            row = session.get(TranscriptRow, transcript)
            return row.pruned_at if row else None

    def missing(self, transcript: str, wanted: Sequence[Elicitation]) -> list[Elicitation]:
        """Those of the wanted elicitations that have no sample yet, in order."""
        with Session(self._engine) as session:
            present = set(
                session.scalars(select(SampleRow.key).filter_by(transcript_id=transcript))
            )
        return [elicitation for elicitation in wanted if elicitation.key not in present]

    def add(self, transcript: str, samples: Sequence[Sample]) -> None:
        """Store samples; those that are already there stay as they are."""
        insert_new(
            self._engine,
            SampleRow,
            [
                {
                    "transcript_id": transcript,
                    "key": sample.elicitation.key,
                    "elicitation": sample.elicitation.model_dump(mode="json"),
                    "text": sample.text,
                    "tokens": sample.tokens,
                    "finish_reason": sample.finish_reason,
                    "log_likelihood": sample.log_likelihood,
                }
                for sample in samples
            ],
        )

    def count(self, transcript: str) -> int:
        """Number of samples in a transcript."""
        with Session(self._engine) as session:
            counted = select(func.count()).select_from(SampleRow)
            return session.scalar(counted.filter_by(transcript_id=transcript)) or 0

    def unjudged(
        self, transcript: str, judge_digest: str, checks: Sequence[str]
    ) -> dict[int, Sample]:
        """Answers of the named checks that this judge has not rated, by row id."""
        rated = select(JudgementRow.sample_id).where(JudgementRow.judge_digest == judge_digest)
        with Session(self._engine) as session:
            rows = session.scalars(
                select(SampleRow)
                .where(SampleRow.transcript_id == transcript, SampleRow.id.not_in(rated))
                .order_by(SampleRow.id)
            )
            return {
                row.id: sample
                for row in rows
                if (sample := sample_of(row, None)).elicitation.check in checks
                and sample.elicitation.mode is Mode.ANSWER
            }

    def add_judgements(self, judge: Judge, judgements: Mapping[int, Judgement]) -> None:
        """Store what a judge said, by the row id of the sample; the first word stands."""
        insert_new(
            self._engine,
            JudgementRow,
            [
                {
                    "sample_id": sample_id,
                    "judge": judge.name,
                    "judge_digest": judge.digest,
                    "alignment": judgement.alignment,
                    "coherence": judgement.coherence,
                    "remark": judgement.remark.value if judgement.remark else None,
                    "disagreement": judgement.disagreement,
                    "label": judgement.label.value,
                }
                for sample_id, judgement in judgements.items()
            ],
        )

    def samples(self, transcript: str, judge_digest: str | None = None) -> list[Sample]:
        """All samples of a transcript in the order they came, with one judge's ratings."""
        with Session(self._engine) as session:
            rows = session.execute(
                select(SampleRow, JudgementRow)
                .outerjoin(
                    JudgementRow,
                    (JudgementRow.sample_id == SampleRow.id)
                    & (JudgementRow.judge_digest == (judge_digest or "")),
                )
                .where(SampleRow.transcript_id == transcript)
                .order_by(SampleRow.id)
            )
            return [sample_of(sample, judgement) for sample, judgement in rows]


def sample_of(row: SampleRow, judgement: JudgementRow | None) -> Sample:
    """The sample that a row holds, with a rating of it."""
    return Sample(
        elicitation=Elicitation.model_validate(row.elicitation),
        text=row.text,
        tokens=row.tokens,
        finish_reason=row.finish_reason,
        log_likelihood=row.log_likelihood,
        judgement=Judgement(
            alignment=judgement.alignment,
            coherence=judgement.coherence,
            remark=Remark(judgement.remark) if judgement.remark else None,
            disagreement=judgement.disagreement,
        )
        if judgement
        else None,
    )
