"""What the metrics show of all verdicts, kept up to date without reading any of them twice.

A verdict never changes, so each is read once in the life of a process; after that a look costs
one count, or where it differs the ids.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from checks.judge_errors import JudgeErrors
from gate.inconclusive import Doubt, doubts
from gate.judge_record import JudgeRecord
from gate.model_name import model_name, model_version
from gate.store.tables import SubmissionRow, VerdictRow
from gate.verdict import Finding, Verdict

#: Verdicts of a judge over which its figures are taken.
LAST_RUNS = 20
#: Judges of which figures are kept, those asked last.
MOST_JUDGES = 20
#: Verdicts that are read at once.
READ_AT_ONCE = 200


@dataclass(frozen=True)
class LatestVerdict:
    """The newest verdict on a model."""

    at: datetime
    submission_id: str
    model: str
    version: str
    policy: str
    outcome: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, order=True)
class JudgedRun:
    """What one run found out about its judge."""

    at: datetime
    submission_id: str
    controls: JudgeErrors | None = field(compare=False)
    disagreement: float | None = field(compare=False)


class VerdictSummary:
    """The newest verdict on each of the newest models, doubts, and the last runs of each judge.

    Not for several threads at once.
    """

    def __init__(self, engine: Engine, models: int) -> None:
        self._engine = engine
        self._models = models
        self._known: set[str] = set()
        self.latest: dict[str, LatestVerdict] = {}
        self.doubts: Counter[Doubt] = Counter()
        self.runs: dict[str, list[JudgedRun]] = {}

    def refresh(self) -> None:
        """Take in the verdicts that came since the last call, of whatever process."""
        with Session(self._engine) as session:
            if session.scalar(select(func.count()).select_from(VerdictRow)) == len(self._known):
                return
            new = set(session.scalars(select(VerdictRow.submission_id))) - self._known
            for read in _read(session, sorted(new)):
                self._take(read)

    def _take(self, read: _Read) -> None:
        self._known.add(read.submission_id)
        self.doubts.update(doubts(read.verdict))
        self._note_model(read)
        if read.verdict.judge is not None and not read.is_standing:
            self._note_judge(read, read.verdict.judge)

    def _note_model(self, read: _Read) -> None:
        name = model_name(read.checkpoint, read.metadata)
        made = LatestVerdict(
            at=read.at,
            submission_id=read.submission_id,
            model=name,
            version=model_version(read.verdict.digests.checkpoint, read.metadata),
            policy=read.policy,
            outcome=read.verdict.outcome,
            findings=read.verdict.findings,
        )
        before = self.latest.get(name)
        if before is None or _age(before) < _age(made):
            self.latest[name] = made
        if len(self.latest) > self._models:
            del self.latest[min(self.latest.values(), key=_age).model]

    def _note_judge(self, read: _Read, record: JudgeRecord) -> None:
        runs = self.runs.setdefault(record.name, [])
        made = JudgedRun(read.at, read.submission_id, record.controls, record.disagreement)
        bisect.insort(runs, made)
        del runs[:-LAST_RUNS]
        if len(self.runs) > MOST_JUDGES:
            del self.runs[min(self.runs, key=lambda judge: self.runs[judge][-1])]


@dataclass(frozen=True)
class _Read:
    """A verdict as it was read, with what its submission says of it."""

    submission_id: str
    at: datetime
    is_standing: bool
    verdict: Verdict
    checkpoint: str
    policy: str
    metadata: dict[str, str]


def _age(latest: LatestVerdict) -> tuple[datetime, str]:
    return latest.at, latest.submission_id


def _read(session: Session, ids: Sequence[str]) -> Iterator[_Read]:
    """Verdicts, a few at a time, so that memory stays bounded."""
    columns = select(
        VerdictRow.submission_id,
        VerdictRow.created_at,
        VerdictRow.standing_since,
        VerdictRow.document,
        SubmissionRow.checkpoint,
        SubmissionRow.policy,
        SubmissionRow.details,
    ).join(SubmissionRow, SubmissionRow.id == VerdictRow.submission_id)
    for begin in range(0, len(ids), READ_AT_ONCE):
        wanted = VerdictRow.submission_id.in_(ids[begin : begin + READ_AT_ONCE])
        for id_, at, standing, document, checkpoint, policy, details in session.execute(
            columns.where(wanted)
        ):
            verdict = Verdict.model_validate(document)
            yield _Read(id_, at, standing is not None, verdict, checkpoint, policy, details)
