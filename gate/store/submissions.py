"""Submissions and verdicts in the record."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property

from sqlalchemy import Engine, insert, inspect, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gate.hooks.outbox import Outbox
from gate.store import attempts
from gate.store.announcing import announce, release_answers
from gate.store.database import keep_new
from gate.store.events import EventRecord
from gate.store.fence import Holder, fenced
from gate.store.idempotency import Claim, IdempotencyRecord, KeyTakenError, take_key
from gate.store.listing import Filters, page_of_submissions
from gate.store.patience import patient, waits_for_database
from gate.store.sample_pages import SamplePages
from gate.store.tables import (
    SubmissionRow,
    Table,
    TrainingSampleRow,
    TranscriptRow,
    TransitionRow,
    VerdictRow,
    clean,
)
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
from gate.tracing import traces
from gate.verdict import Verdict

#: Source of submissions that ``emgate check`` runs by itself.
COMMAND_LINE = "cli"


class UnknownSubmissionError(Exception):
    """There is no submission with this id."""


@waits_for_database
class SubmissionRecord:
    """Creates, moves and reads submissions. Every method is one transaction."""

    def __init__(self, engine: Engine, outbox: Outbox = Outbox()) -> None:  # noqa: B008 - frozen
        self._engine = engine
        self._outbox = outbox

    def under(self, holder: Holder, patience: float) -> SubmissionRecord:
        """This record for a run: it writes only while the holder holds its submission.

        Args:
            holder: who runs which submission.
            patience: how long to wait for a database that is away, in seconds.
        """
        return SubmissionRecord(patient(fenced(self._engine, holder), patience), self._outbox)

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
        rows_with: Callable[[str], Sequence[Table]] = lambda _submission_id: (),
    ) -> Submission:
        """Record a new submission in state ``queued``, and the key that it came with.

        ``rows_with`` makes rows of its id that are written in the same transaction.

        Raises:
            KeyTakenError: another request with the same key was faster; nothing was recorded.
            IntegrityError: one of the further rows breaks a constraint; nothing was recorded.
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
            postponements=0,
            traceparent=traces().traceparent(),
        )
        row.transitions = [TransitionRow(state=State.QUEUED.value, at=now)]
        with Session(self._engine) as session, session.begin():
            if request.training_sample is not None:
                row.training_sample_digest = _keep_by_digest(session, request.training_sample)
            _insert(session, row)
            if claim is not None:
                try:
                    take_key(session, claim, row.id)
                except IntegrityError as error:
                    raise KeyTakenError(claim.key) from error
            made = _submission(row, standing_since=None)
            session.add_all(rows_with(row.id))
            announce(session, self._outbox, made, now)
            return made

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

    def waiting(self, limit: int | None = None) -> list[str]:
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
                    .limit(limit)
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
                self._moved(session, submission_id, target)
            return bool(moved)

    def _moved(
        self, session: Session, submission_id: str, target: State, verdict: Verdict | None = None
    ) -> None:
        """Note the move and tell of it, in the transaction that made it."""
        transition = _transition(submission_id, target)
        session.add(transition)
        if self._outbox.endpoints:
            session.flush()
            row = session.get_one(SubmissionRow, submission_id)
            moved = _submission(row, row.standing_since)
            announce(session, self._outbox, moved, transition.at, verdict)
        if target in TERMINAL:
            release_answers(session, submission_id, transition.at)

    def acquire(self, submission_id: str, owner: str, seconds: float) -> bool:
        """Take or renew the lease; False while another owner holds it, or once it has ended."""
        now = datetime.now(UTC)
        done = [state.value for state in TERMINAL]
        with Session(self._engine) as session, session.begin():
            taken = session.execute(
                update(SubmissionRow)
                .where(
                    SubmissionRow.id == submission_id,
                    SubmissionRow.state.not_in(done),
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

    def renew(self, submission_id: str, owner: str, seconds: float) -> State | None:
        """Renew the lease and say in what state the submission is; None if the lease is lost."""
        later = datetime.now(UTC) + timedelta(seconds=seconds)
        with Session(self._engine) as session, session.begin():
            state = session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == submission_id, SubmissionRow.lease_owner == owner)
                .values(lease_expires_at=later)
                .returning(SubmissionRow.state)
            ).scalar_one_or_none()
            return State(state) if state is not None else None

    def release(self, submission_id: str, owner: str) -> None:
        """Give the lease back, if this owner holds it."""
        with Session(self._engine) as session, session.begin():
            session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == submission_id, SubmissionRow.lease_owner == owner)
                .values(lease_owner=None, lease_expires_at=None)
            )

    def begin_attempt(self, submission_id: str, worker: str = "") -> int:
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
            attempts.begin(session, submission_id, worker)
            return counted

    def end_attempt(self, submission_id: str, ended_as: str) -> None:
        """Note what ended the attempt that runs now."""
        with Session(self._engine) as session, session.begin():
            attempts.end(session, submission_id, ended_as)

    def take_back_attempt(self, submission_id: str) -> None:
        """Do not count the attempt that runs now."""
        with Session(self._engine) as session, session.begin():
            session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == submission_id)
                .values(attempts=SubmissionRow.attempts - 1)
            )
            attempts.take_back(session, submission_id)

    def past_attempts(self, submission_id: str) -> list[str]:
        """What became of every attempt that is over, in words, oldest first."""
        with Session(self._engine) as session:
            return attempts.past(session, submission_id)

    def postpone(self, submission_id: str, seconds: float) -> int:
        """Let a submission wait and take back the attempt; return how often it had to wait."""
        later = datetime.now(UTC) + timedelta(seconds=seconds)
        with Session(self._engine) as session, session.begin():
            attempts.take_back(session, submission_id)
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
            # A baseline that was pruned is about to be sampled anew.
            session.execute(
                update(TranscriptRow)
                .where(
                    TranscriptRow.id.in_([candidate, baseline]),
                    TranscriptRow.pruned_at.is_not(None),
                )
                .values(pruned_at=None)
            )

    def pin(self, submission_id: str, checkpoint: str, base: str | None) -> None:
        """Name the exact revisions that a run has found, so that a later attempt takes them too."""
        with Session(self._engine) as session, session.begin():
            session.execute(
                update(SubmissionRow)
                .where(SubmissionRow.id == submission_id)
                .values(checkpoint=checkpoint, base=base)
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
                self._moved(session, submission_id, State.DECIDED, verdict)
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
            # Another run was faster; anything else that breaks a constraint is a fault to be seen.
            if self.verdict(submission_id) is None:
                raise
            return False
        return True

    def verdict(self, submission_id: str) -> Verdict | None:
        """The verdict, or None while there is none."""
        with Session(self._engine) as session:
            row = session.get(VerdictRow, submission_id)
            return Verdict.model_validate(row.document) if row else None


def _insert(session: Session, row: SubmissionRow) -> None:
    """Insert a submission and its first transition by plain statements.

    This is the hot path of the API, and the unit of work costs more than the statements.
    """
    mapper, table = inspect(SubmissionRow), SubmissionRow.__table__
    values = {c.name: getattr(row, mapper.get_property_by_column(c).key) for c in table.columns}
    session.execute(insert(table), values)  # type: ignore[arg-type]
    first = [{"submission_id": row.id, "state": t.state, "at": t.at} for t in row.transitions]
    session.execute(insert(TransitionRow.__table__), first)  # type: ignore[arg-type]


def _keep_by_digest(session: Session, content: str) -> str:
    content = clean(content)
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
        traceparent=row.traceparent,
        transitions=[Transition(state=State(m.state), at=m.at) for m in moves],
    )
