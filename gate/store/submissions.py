"""Submissions and verdicts in the record."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property

from sqlalchemy import Engine, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gate.store.database import keep_new
from gate.store.events import EventRecord
from gate.store.idempotency import Claim, IdempotencyRecord, KeyTakenError, take_key
from gate.store.listing import Filters, page_of_submissions
from gate.store.sample_pages import SamplePages
from gate.store.tables import SubmissionRow, TrainingSampleRow, TransitionRow, VerdictRow
from gate.store.verdicts import VerdictRecord, transcripts_of
from gate.submission import (
    TERMINAL,
    DeclaredContext,
    Progress,
    State,
    Submission,
    SubmissionRequest,
    Transition,
    states_before,
)
from gate.verdict import Verdict

#: Source of submissions that ``emgate check`` runs by itself.
COMMAND_LINE = "cli"


class UnknownSubmissionError(Exception):
    """There is no submission with this id."""


class SubmissionRecord:
    """Creates, moves and reads submissions. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @cached_property
    def verdicts(self) -> VerdictRecord:
        """The verdicts of the same record, by what they depend on."""
        return VerdictRecord(self._engine)

    @cached_property
    def keys(self) -> IdempotencyRecord:
        """The idempotency keys of the same record."""
        return IdempotencyRecord(self._engine)

    @cached_property
    def events(self) -> EventRecord:
        """What listeners are told, of the same record."""
        return EventRecord(self._engine)

    @cached_property
    def sample_pages(self) -> SamplePages:
        """Samples of the same record, in pages."""
        return SamplePages(self._engine)

    def create(
        self,
        request: SubmissionRequest,
        source: str,
        submitted_by: str | None = None,
        claim: Claim | None = None,
    ) -> Submission:
        """Record a new submission in state ``queued``, and the key that it came with.

        Raises:
            KeyTakenError: another request with the same key was faster; nothing was recorded.
        """
        now = datetime.now(UTC)
        row = SubmissionRow(
            id=f"sub_{uuid.uuid4().hex}",
            state=State.QUEUED.value,
            checkpoint=request.checkpoint,
            base=request.base,
            policy=request.policy,
            battery=request.battery,
            contexts=[context.model_dump() for context in request.contexts],
            details=request.metadata,
            training_sample_digest=None,
            source=source,
            submitted_by=submitted_by,
            fresh=request.fresh,
            created_at=now,
            attempts=0,
        )
        row.transitions = [TransitionRow(state=State.QUEUED.value, at=now)]
        with Session(self._engine) as session, session.begin():
            if request.training_sample is not None:
                row.training_sample_digest = _keep_by_digest(session, request.training_sample)
            session.add(row)
            session.flush()
            if claim is not None:
                try:
                    take_key(session, claim, row.id)
                except IntegrityError as error:
                    raise KeyTakenError(claim.key) from error
            return _submission(row, standing_since=None)

    def get(self, submission_id: str) -> Submission:
        """Read one submission.

        Raises:
            UnknownSubmissionError: no such id.
        """
        with Session(self._engine) as session:
            row = session.get(SubmissionRow, submission_id)
            if row is None:
                raise UnknownSubmissionError(submission_id)
            return _submission(row, row.standing_since)

    def page(
        self, filters: Filters, limit: int, after: tuple[datetime, str] | None = None
    ) -> tuple[list[Submission], tuple[datetime, str] | None]:
        """Submissions that match, newest first, and the place after which more begin, if any."""
        with Session(self._engine) as session:
            rows, following = page_of_submissions(session, filters, limit, after)
            return [_submission(row, row.standing_since) for row in rows], following

    def waiting(self) -> list[str]:
        """Ids of submissions that have not ended and that nobody holds, oldest first.

        Those of the command line are not among them: they end with their process. Nor are those
        that were postponed to a later time.
        """
        now = datetime.now(UTC)
        done = [state.value for state in TERMINAL]
        with Session(self._engine) as session:
            return list(
                session.scalars(
                    select(SubmissionRow.id)
                    .where(
                        SubmissionRow.state.not_in(done),
                        SubmissionRow.source != COMMAND_LINE,
                        or_(
                            SubmissionRow.lease_owner.is_(None),
                            SubmissionRow.lease_expires_at < now,
                        ),
                        or_(SubmissionRow.not_before.is_(None), SubmissionRow.not_before <= now),
                    )
                    .order_by(SubmissionRow.created_at)
                )
            )

    def move(self, submission_id: str, target: State, error: str | None = None) -> bool:
        """Move forward and note the time; False if the submission is already there or past it."""
        allowed = [state.value for state in states_before(target)]
        values: dict[str, object] = {"state": target.value}
        if error is not None:
            values["error"] = error
        if target in TERMINAL:
            values["progress"] = None
        with Session(self._engine) as session, session.begin():
            moved = session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == submission_id, SubmissionRow.state.in_(allowed))
                .values(**values)
                .returning(SubmissionRow.id)
            ).all()
            if moved:
                session.add(_transition(submission_id, target))
            return bool(moved)

    def acquire(self, submission_id: str, owner: str, seconds: float) -> bool:
        """Take or renew the lease; False while another owner holds it."""
        now = datetime.now(UTC)
        with Session(self._engine) as session, session.begin():
            taken = session.execute(
                update(SubmissionRow)
                .where(
                    SubmissionRow.id == submission_id,
                    or_(
                        SubmissionRow.lease_owner.is_(None),
                        SubmissionRow.lease_owner == owner,
                        SubmissionRow.lease_expires_at < now,
                    ),
                )
                .values(lease_owner=owner, lease_expires_at=now + timedelta(seconds=seconds))
                .returning(SubmissionRow.id)
            ).all()
            return bool(taken)

    def release(self, submission_id: str, owner: str) -> None:
        """Give the lease back, if this owner holds it."""
        with Session(self._engine) as session, session.begin():
            session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == submission_id, SubmissionRow.lease_owner == owner)
                .values(lease_owner=None, lease_expires_at=None)
            )

    def begin_attempt(self, submission_id: str) -> int:
        """Count one more run of this submission and return how many there have been."""
        with Session(self._engine) as session, session.begin():
            counted = session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == submission_id)
                .values(attempts=SubmissionRow.attempts + 1)
                .returning(SubmissionRow.attempts)
            ).scalar_one_or_none()
            if counted is None:
                raise UnknownSubmissionError(submission_id)
            return counted

    def postpone(self, submission_id: str, seconds: float) -> int:
        """Let a submission wait and take back the attempt; return how often it had to wait."""
        later = datetime.now(UTC) + timedelta(seconds=seconds)
        with Session(self._engine) as session, session.begin():
            return session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == submission_id)
                .values(
                    attempts=SubmissionRow.attempts - 1,
                    postponements=SubmissionRow.postponements + 1,
                    not_before=later,
                )
                .returning(SubmissionRow.postponements)
            ).scalar_one()

    def training_sample(self, submission_id: str) -> str | None:
        """The sample of fine-tuning data that the submission brought."""
        with Session(self._engine) as session:
            return session.scalar(
                select(TrainingSampleRow.content)
                .join(
                    SubmissionRow, SubmissionRow.training_sample_digest == TrainingSampleRow.digest
                )
                .where(SubmissionRow.id == submission_id)
            )

    def note_progress(self, submission_id: str, progress: Progress) -> None:
        """Show how far the current stage is."""
        with Session(self._engine) as session, session.begin():
            session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == submission_id)
                .values(progress=progress.model_dump())
            )

    def attach(self, submission_id: str, candidate: str, baseline: str | None) -> None:
        """Note which transcripts are this submission's evidence."""
        with Session(self._engine) as session, session.begin():
            session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == submission_id)
                .values(candidate_transcript=candidate, baseline_transcript=baseline)
            )

    def transcripts(self, submission_id: str) -> tuple[str | None, str | None]:
        """Ids of the candidate's and the baseline's transcript, as far as they exist."""
        with Session(self._engine) as session:
            row = session.get(SubmissionRow, submission_id)
            return (row.candidate_transcript, row.baseline_transcript) if row else (None, None)

    def conclude(
        self, submission_id: str, verdict: Verdict, standing_since: str | None = None
    ) -> bool:
        """Store the verdict and move to ``decided`` in one transaction.

        ``standing_since`` is the submission whose verdict this is, where no run was needed: its
        transcripts are the evidence of this one too.

        False, and nothing is stored, when the submission already has a verdict or has ended.
        """
        allowed = [state.value for state in states_before(State.DECIDED)]
        try:
            with Session(self._engine) as session, session.begin():
                moved = session.execute(
                    update(SubmissionRow)
                    .where(SubmissionRow.id == submission_id, SubmissionRow.state.in_(allowed))
                    .values(state=State.DECIDED.value, outcome=verdict.outcome.value, progress=None)
                    .returning(SubmissionRow.id)
                ).all()
                if not moved:
                    return False
                if standing_since is not None:
                    candidate, baseline = transcripts_of(session, standing_since)
                    session.execute(
                        update(SubmissionRow)
                        .where(SubmissionRow.id == submission_id)
                        .values(candidate_transcript=candidate, baseline_transcript=baseline)
                    )
                session.add(_transition(submission_id, State.DECIDED))
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
        except IntegrityError:
            return False
        return True

    def verdict(self, submission_id: str) -> Verdict | None:
        """The verdict, or None while there is none."""
        with Session(self._engine) as session:
            row = session.get(VerdictRow, submission_id)
            return Verdict.model_validate(row.document) if row else None


def _keep_by_digest(session: Session, content: str) -> str:
    digest = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
    keep_new(session, TrainingSampleRow, [{"digest": digest, "content": content}])
    return digest


def _transition(submission_id: str, state: State) -> TransitionRow:
    return TransitionRow(submission_id=submission_id, state=state.value, at=datetime.now(UTC))


def _submission(row: SubmissionRow, standing_since: str | None) -> Submission:
    moves: Sequence[TransitionRow] = row.transitions
    return Submission(
        id=row.id,
        state=State(row.state),
        checkpoint=row.checkpoint,
        base=row.base,
        policy=row.policy,
        battery=row.battery,
        contexts=[DeclaredContext.model_validate(context) for context in row.contexts],
        metadata=row.details,
        training_sample_digest=row.training_sample_digest,
        source=row.source,
        submitted_by=row.submitted_by,
        fresh=row.fresh,
        created_at=row.created_at,
        attempts=row.attempts,
        postponements=row.postponements,
        not_before=row.not_before,
        progress=Progress.model_validate(row.progress) if row.progress else None,
        outcome=row.outcome,
        error=row.error,
        standing_since=standing_since,
        transitions=[Transition(state=State(m.state), at=m.at) for m in moves],
    )
