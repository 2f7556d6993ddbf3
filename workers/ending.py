"""How a run ends without a verdict: failed, given up, postponed, or left to another attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from gate.metrics import SUBMISSIONS_FAILED, SUBMISSIONS_POSTPONED
from gate.settings import Settings
from gate.store.fence import RunInterruptedError, SubmissionEndedError
from gate.store.submissions import SubmissionRecord
from gate.submission import Progress, State, Submission
from gate.tracing import traces
from workers.lease import WorkerStoppedError
from workers.rounds import Note

log = logging.getLogger(__name__)

#: The longest wait for a judge that does not answer, in seconds.
LONGEST_WAIT = 600.0

#: Is told of every move and of all progress, such as the command line that shows it.
Watch = Callable[[State, Progress | None], None]


class Ending:
    """Ends runs of submissions that get no verdict now."""

    def __init__(
        self, submissions: SubmissionRecord, settings: Settings, watch: Watch, note: Note
    ) -> None:
        self._submissions = submissions
        self._settings = settings
        self._watch = watch
        self._note = note

    def fail(self, submission_id: str, reason: str, message: str) -> None:
        """End a submission as ``failed``, unless it has ended; ``reason`` is for the metric."""
        if self._submissions.move(submission_id, State.FAILED, error=message):
            self._submissions.end_attempt(submission_id, f"failed: {message}")
            SUBMISSIONS_FAILED.labels(reason).inc()
            tell_end("failed", f"the gate could not judge: {message}", logging.WARNING)
        self._watch(State.FAILED, None)

    def postpone(self, submission: Submission, reason: str) -> None:
        """Let the submission wait for its judge, unless it has waited often enough."""
        wait = min(
            LONGEST_WAIT,
            self._settings.judge_wait_seconds * 2.0 ** min(submission.postponements, 16),
        )
        times = self._submissions.postpone(submission.id, wait)
        if times > self._settings.judge_postponements:
            self.fail(submission.id, "JudgeUnavailableError", f"{reason}; given up")
            return
        SUBMISSIONS_POSTPONED.inc()
        log.warning("submission %s waits %g s for its judge: %s", submission.id, wait, reason)
        self._note(submission.id, submission.state, 0, 0, f"waiting for the judge: {reason}"[:300])

    def leave(self, submission_id: str, why: RunInterruptedError) -> None:
        """Close the attempt, if the submission is still this run's to write to."""
        try:
            if isinstance(why, WorkerStoppedError):
                self._submissions.take_back_attempt(submission_id)
            elif isinstance(why, SubmissionEndedError):
                self._submissions.end_attempt(submission_id, f"stopped because {why}")
        except (RunInterruptedError, DBAPIError) as error:
            log.warning("submission %s: its attempt stays open: %s", submission_id, error)

    def why_given_up(self, submission: Submission) -> str:
        """What to say of a submission all of whose attempts were interrupted."""
        past = self._submissions.past_attempts(submission.id)
        told = "; ".join(f"{number}: {words}" for number, words in enumerate(past, start=1))
        return (
            f"given up after {self._settings.attempts} attempts, each of which was interrupted; "
            f"{told or f'the last one while {submission.state}'}"
        )


def tell_end(outcome: str, words: str, level: int = logging.INFO) -> None:
    """Log how a submission ended, and note it in its trace."""
    log.log(level, "%s", words, extra={"outcome": outcome})
    traces().note({"emgate.outcome": outcome})
