"""Submissions and verdicts in the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cached_property

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gate.hooks.outbox import Outbox
from gate.store import attempts, leases, moves
from gate.store.announcing import announce
from gate.store.audit import PendingEntry
from gate.store.database import WritersTurns
from gate.store.events import EventRecord
from gate.store.fence import Holder, fenced
from gate.store.idempotency import Claim, IdempotencyRecord, KeyTakenError, take_key
from gate.store.listing import Filters, page_of_submissions
from gate.store.patience import patient, waits_for_database
from gate.store.sample_pages import SamplePages
from gate.store.submission_rows import submission_of, write_new
from gate.store.tables import SubmissionRow, Table, TrainingSampleRow, TranscriptRow, VerdictRow
from gate.store.verdicts import VerdictRecord
from gate.submission import Progress, State, Submission, SubmissionRequest
from gate.verdict import Verdict


class UnknownSubmissionError(Exception):
    """There is no submission with this id."""


@waits_for_database
class SubmissionRecord:
    """Creates, moves and reads submissions. Every method is one transaction."""

    def __init__(self, engine: Engine, outbox: Outbox = Outbox()) -> None:  # noqa: B008 - frozen
        self._engine = engine
        self._outbox = outbox
        self._turns = WritersTurns(engine)

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
        audit: PendingEntry | None = None,
    ) -> Submission:
        """Record a new submission in state ``queued``, and the key that it came with.

        ``rows_with`` makes rows of its id that are written in the same transaction, as the entry
        of the audit log is.

        Raises:
            KeyTakenError: another request with the same key was faster; nothing was recorded.
            IntegrityError: one of the further rows breaks a constraint; nothing was recorded.
        """
        now = datetime.now(UTC)
        with self._turns.taken(), Session(self._engine) as session, session.begin():
            made = write_new(session, request, source, submitted_by, now)
            if claim is not None:
                try:
                    take_key(session, claim, made.id)
                except IntegrityError as error:
                    raise KeyTakenError(claim.key) from error
            session.add_all(rows_with(made.id))
            announce(session, self._outbox, made, now)
            row_id = audit.write(session.connection(), made.id) if audit else None
        if audit is not None:
            audit.row_id = row_id
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
            return submission_of(row)

    def page(
        self, filters: Filters, limit: int, after: tuple[datetime, str] | None = None
    ) -> tuple[list[Submission], tuple[datetime, str] | None]:
        """Submissions that match, newest first, and the place after which more begin, if any."""
        with Session(self._engine) as session:
            rows, following = page_of_submissions(session, filters, limit, after)
            return [submission_of(row) for row in rows], following

    def waiting(self, limit: int | None = None) -> list[str]:
        """Ids of submissions that have not ended and that nobody holds, oldest first.

        Those of the command line are not among them: they end with their process. Nor are those
        that were postponed to a later time.
        """
        with Session(self._engine) as session:
            return leases.waiting(session, limit)

    def move(self, submission_id: str, target: State, error: str | None = None) -> bool:
        """Move forward and note the time; False if the submission is already there or past it."""
        with Session(self._engine) as session, session.begin():
            return moves.move(session, self._outbox, submission_id, target, error)

    def acquire(self, submission_id: str, owner: str, seconds: float) -> bool:
        """Take or renew the lease; False while another owner holds it, or once it has ended."""
        with Session(self._engine) as session, session.begin():
            return leases.acquire(session, submission_id, owner, seconds)

    def has_lapsed(self, submission_id: str) -> bool:
        """Whether the submission is held under a lease that was not renewed in time."""
        with Session(self._engine) as session:
            held = select(SubmissionRow.id).where(
                SubmissionRow.id == submission_id,
                SubmissionRow.lease_owner.is_not(None),
                SubmissionRow.lease_expires_at < datetime.now(UTC),
            )
            return session.scalar(held) is not None

    def renew(self, submission_id: str, owner: str, seconds: float) -> State | None:
        """Renew the lease and say in what state the submission is; None if the lease is lost."""
        with Session(self._engine) as session, session.begin():
            return leases.renew(session, submission_id, owner, seconds)

    def release(self, submission_id: str, owner: str) -> None:
        """Give the lease back, if this owner holds it."""
        with Session(self._engine) as session, session.begin():
            leases.release(session, submission_id, owner)

    def begin_attempt(self, submission_id: str, worker: str = "") -> int:
        """Count one more run of this submission and return how many there have been."""
        with Session(self._engine) as session, session.begin():
            counted = attempts.begin(session, submission_id, worker)
        if counted is None:
            raise UnknownSubmissionError(submission_id)
        return counted

    def end_attempt(self, submission_id: str, ended_as: str) -> None:
        """Note what ended the attempt that runs now."""
        with Session(self._engine) as session, session.begin():
            attempts.end(session, submission_id, ended_as)

    def take_back_attempt(self, submission_id: str) -> None:
        """Do not count the attempt that runs now."""
        with Session(self._engine) as session, session.begin():
            attempts.take_back(session, submission_id)

    def past_attempts(self, submission_id: str) -> list[str]:
        """What became of every attempt that is over, in words, oldest first."""
        with Session(self._engine) as session:
            return attempts.past(session, submission_id)

    def postpone(self, submission_id: str, seconds: float) -> int:
        """Let a submission wait and take back the attempt; return how often it had to wait."""
        with Session(self._engine) as session, session.begin():
            return attempts.postpone(session, submission_id, seconds)

    def training_sample(self, submission_id: str) -> str | None:
        """The sample of fine-tuning data that the submission brought, if it is still kept."""
        with Session(self._engine) as session:
            content = session.scalar(
                select(TrainingSampleRow.content)
                .join(
                    SubmissionRow, SubmissionRow.training_sample_digest == TrainingSampleRow.digest
                )
                .where(SubmissionRow.id == submission_id)
            )
            return content or None

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
        try:
            with Session(self._engine) as session, session.begin():
                return moves.conclude(session, self._outbox, submission_id, verdict, standing_since)
        except IntegrityError:
            # Another run was faster; anything else that breaks a constraint is a fault to be seen.
            if self.verdict(submission_id) is None:
                raise
            return False

    def verdict(self, submission_id: str) -> Verdict | None:
        """The verdict, or None while there is none."""
        with Session(self._engine) as session:
            row = session.get(VerdictRow, submission_id)
            return Verdict.model_validate(row.document) if row else None
