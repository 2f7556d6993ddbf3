"""Judges in the record: their calibrations, and their labels of the controls of each run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from checks.calibration import Calibration
from checks.judgement import Judgement
from gate.store.database import insert_new
from gate.store.fence import Holder, fenced
from gate.store.patience import patient, waits_for_database
from gate.store.tables import CalibrationRow, ControlRow


@waits_for_database
class JudgeStore:
    """Stores and reads what is known of judges. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def under(self, holder: Holder, patience: float) -> JudgeStore:
        """The same for a run: it writes only while the holder holds its submission.

        Args:
            holder: who runs which submission.
            patience: how long to wait for a database that is away, in seconds.
        """
        return JudgeStore(patient(fenced(self._engine, holder), patience))

    def keep(self, calibration: Calibration) -> None:
        """Store a calibration; the newest of a judge and a gold set stands."""
        with Session(self._engine) as session, session.begin():
            session.add(
                CalibrationRow(
                    judge_digest=calibration.judge_digest,
                    gold_digest=calibration.gold_digest,
                    document=calibration.model_dump(mode="json"),
                    created_at=datetime.now(UTC),
                )
            )

    def calibration(self, judge_digest: str, gold_digest: str) -> Calibration | None:
        """The newest calibration of this judge on this gold set."""
        return self._newest(judge_digest=judge_digest, gold_digest=gold_digest)

    def newest_calibration(self, gold_digest: str) -> Calibration | None:
        """The newest calibration of any judge on this gold set."""
        return self._newest(gold_digest=gold_digest)

    def _newest(self, **wanted: str) -> Calibration | None:
        with Session(self._engine) as session:
            row = session.scalars(
                select(CalibrationRow)
                .filter_by(**wanted)
                .order_by(CalibrationRow.id.desc())
                .limit(1)
            ).first()
            return Calibration.model_validate(row.document) if row else None

    def add_controls(
        self, submission_id: str, judge_digest: str, judgements: Mapping[str, Judgement]
    ) -> None:
        """Store what a judge said about controls, by gold id; the first word stands."""
        insert_new(
            self._engine,
            ControlRow,
            [
                {
                    "submission_id": submission_id,
                    "judge_digest": judge_digest,
                    "gold_id": gold_id,
                    "judgement": judgement.model_dump(mode="json"),
                }
                for gold_id, judgement in judgements.items()
            ],
        )

    def controls(self, submission_id: str, judge_digest: str) -> dict[str, Judgement]:
        """What a judge said about the controls of one run, by gold id."""
        with Session(self._engine) as session:
            rows = session.scalars(
                select(ControlRow).filter_by(submission_id=submission_id, judge_digest=judge_digest)
            )
            return {row.gold_id: Judgement.model_validate(row.judgement) for row in rows}
