"""Moves of a submission's state, up to its verdict, each noted and told of where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import update
from sqlalchemy.orm import Session

from gate.hooks.outbox import Outbox
from gate.store.announcing import announce, release_answers
from gate.store.submission_rows import submission_of
from gate.store.tables import SubmissionRow, TransitionRow, VerdictRow
from gate.store.verdicts import transcripts_of
from gate.submission import TERMINAL, State, states_before
from gate.verdict import Verdict


def move(
    session: Session, outbox: Outbox, submission_id: str, target: State, error: str | None
) -> bool:
    """Move forward and note the time; False if the submission is already there or past it."""
    values: dict[str, object] = {"state": target.value}
    if error is not None:
        values["error"] = error
    if target in TERMINAL:
        values["progress"] = None
    if not _changed(session, submission_id, target, values):
        return False
    _tell(session, outbox, submission_id, target)
    return True


def conclude(
    session: Session,
    outbox: Outbox,
    submission_id: str,
    verdict: Verdict,
    standing_since: str | None,
) -> bool:
    """Move to ``decided`` and store the verdict; False if the submission has ended.

    Raises:
        IntegrityError: when the session is flushed, if the submission already has a verdict.
    """
    values = {"state": State.DECIDED.value, "outcome": verdict.outcome.value, "progress": None}
    if not _changed(session, submission_id, State.DECIDED, values):
        return False
    if standing_since is not None:
        candidate, baseline = transcripts_of(session, standing_since)
        session.execute(
            update(SubmissionRow)
            .where(SubmissionRow.id == submission_id)
            .values(candidate_transcript=candidate, baseline_transcript=baseline)
        )
    _tell(session, outbox, submission_id, State.DECIDED, verdict)
    session.add(
        VerdictRow(
            submission_id=submission_id,
            outcome=verdict.outcome.value,
            identity=verdict.digests.identity,
            checkpoint_digest=verdict.digests.checkpoint,
            standing_since=standing_since,
            document=verdict.model_dump(mode="json"),
            created_at=datetime.now(UTC),
        )
    )
    return True


def _changed(
    session: Session, submission_id: str, target: State, values: Mapping[str, object]
) -> bool:
    allowed = [state.value for state in states_before(target)]
    moved = session.execute(
        update(SubmissionRow)
        .where(SubmissionRow.id == submission_id, SubmissionRow.state.in_(allowed))
        .values(**values)
        .returning(SubmissionRow.id)
    ).all()
    return bool(moved)


def _tell(
    session: Session,
    outbox: Outbox,
    submission_id: str,
    target: State,
    verdict: Verdict | None = None,
) -> None:
    """Note the move and tell of it, in the transaction that made it."""
    now = datetime.now(UTC)
    session.add(TransitionRow(submission_id=submission_id, state=target.value, at=now))
    if outbox.endpoints:
        session.flush()
        row = session.get_one(SubmissionRow, submission_id)
        announce(session, outbox, submission_of(row), now, verdict)
    if target in TERMINAL:
        release_answers(session, submission_id, now)
