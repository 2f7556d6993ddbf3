"""Deleting what is old enough; verdicts and what they say stay for ever."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, Select, delete, func, or_, select, update
from sqlalchemy.orm import Session

from gate.errors import GateError
from gate.policy import load_policy
from gate.settings import Settings
from gate.store.hook_retention import prune_deliveries, prune_received
from gate.store.tables import (
    JudgementRow,
    SampleRow,
    SubmissionRow,
    TrainingSampleRow,
    TranscriptRow,
    TransitionRow,
)
from gate.submission import COMMAND_LINE, TERMINAL

log = logging.getLogger(__name__)

Days = Callable[[str], float | None]


@dataclass(frozen=True)
class Pruned:
    """What was deleted, or would be.

    ``training_samples`` are those whose content was, ``received_hooks`` the ids of calls.
    """

    transcripts: int = 0
    samples: int = 0
    training_samples: int = 0
    deliveries: int = 0
    received_hooks: int = 0


def prune(engine: Engine, settings: Settings, dry_run: bool = False) -> Pruned:
    """Delete what no submission needs any more, and what webhooks left, when its days are over.

    Samples go with their judgements, and samples of training data, once every submission that has
    them is done with them: it has ended and the days of its policy, or else those of the settings,
    are over. So a baseline stays while any submission may need it.

    Raises:
        GateError: a policy file is wrong; unknown policies count as without days of their own.
    """
    days = _days(settings)
    now = datetime.now(UTC)
    transcripts = samples = 0
    for transcript in _kept(engine):
        with Session(engine) as session:
            found = _prune(session, transcript, days, now)
            if dry_run or found is None:
                session.rollback()
            else:
                session.commit()
        if found is not None:
            transcripts, samples = transcripts + 1, samples + found
    pruned = Pruned(
        transcripts,
        samples,
        _prune_training_samples(engine, days, now, dry_run),
        prune_deliveries(engine, settings, now, dry_run),
        prune_received(engine, settings, now, dry_run),
    )
    if pruned != Pruned() and not dry_run:
        log.info("deleted, since they were old: %s", pruned)
    return pruned


def _days(settings: Settings) -> Days:
    known: dict[str, float | None] = {}

    def of(policy: str) -> float | None:
        if policy not in known:
            try:
                own = load_policy(policy, settings.policy_directories).retention_days
            except GateError as error:
                log.warning("retention by GATE_SAMPLE_RETENTION_DAYS: %s", error)
                own = None
            known[policy] = settings.sample_retention_days if own is None else own
        return known[policy]

    return of


def _kept(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return list(
            session.scalars(
                select(TranscriptRow.id)
                .where(
                    TranscriptRow.pruned_at.is_(None),
                    select(SampleRow.id)
                    .where(SampleRow.transcript_id == TranscriptRow.id)
                    .exists(),
                )
                .order_by(TranscriptRow.created_at)
            )
        )


def _prune(session: Session, transcript: str, days: Days, now: datetime) -> int | None:
    """Delete a transcript's samples and return how many; None if somebody may need them."""
    # Looked at before anything is locked, since most transcripts are not old.
    if not _all_done(session, transcript, days, now):
        return None
    session.rollback()
    # The lock makes a run that is about to use this transcript wait, and then sample it anew:
    # on PostgreSQL the row's, on SQLite the one that the first write takes.
    session.execute(select(TranscriptRow.id).filter_by(id=transcript).with_for_update())
    session.execute(update(TranscriptRow).filter_by(id=transcript).values(pruned_at=now))
    if not _all_done(session, transcript, days, now):
        return None
    mine = select(SampleRow.id).where(SampleRow.transcript_id == transcript)
    count = session.scalar(select(func.count()).select_from(mine.subquery())) or 0
    session.execute(delete(JudgementRow).where(JudgementRow.sample_id.in_(mine)))
    session.execute(delete(SampleRow).where(SampleRow.transcript_id == transcript))
    return count


def _prune_training_samples(engine: Engine, days: Days, now: datetime, dry_run: bool) -> int:
    """Empty the samples of training data that every submission is done with; say how many.

    The row with the digest stays, since submissions name it.
    """
    with Session(engine) as session:
        kept = session.scalars(
            select(TrainingSampleRow.digest).where(TrainingSampleRow.content != "")
        ).all()
    emptied = 0
    for digest in kept:
        users = select(SubmissionRow).where(SubmissionRow.training_sample_digest == digest)
        with Session(engine) as session:
            if not _are_done(session, users, days, now):
                continue
            if not dry_run:
                session.rollback()
                # The lock makes a submission that brings the same sample wait, and fill it again.
                here = select(TrainingSampleRow.digest).filter_by(digest=digest)
                session.execute(here.with_for_update())
                session.execute(
                    update(TrainingSampleRow).filter_by(digest=digest).values(content="")
                )
                if not _are_done(session, users, days, now):
                    continue
                session.commit()
        emptied += 1
    return emptied


def _all_done(session: Session, transcript: str, days: Days, now: datetime) -> bool:
    users = select(SubmissionRow).where(
        or_(
            SubmissionRow.candidate_transcript == transcript,
            SubmissionRow.baseline_transcript == transcript,
        )
    )
    return _are_done(session, users, days, now)


def _are_done(session: Session, users: Select[Any], days: Days, now: datetime) -> bool:
    return all(_is_done(session, row, days, now) for row in session.scalars(users))


def _is_done(session: Session, row: SubmissionRow, days: Days, now: datetime) -> bool:
    kept, ended = days(row.policy), _ended(session, row)
    return kept is not None and ended is not None and ended + timedelta(days=kept) <= now


def _ended(session: Session, row: SubmissionRow) -> datetime | None:
    """When a submission ended, or a command line that was killed let go of it."""
    if row.state in {state.value for state in TERMINAL}:
        return session.scalar(
            select(func.max(TransitionRow.at)).where(TransitionRow.submission_id == row.id)
        )
    if row.source == COMMAND_LINE:
        return row.lease_expires_at
    return None
