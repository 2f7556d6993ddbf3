"""The run: one submission from its directories to its verdict.

Everything that a second attempt needs is in the record: samples and judgements are stored as they
come, and only what is missing is asked for again.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from structlog.contextvars import bound_contextvars

from checks.battery import BatteryError, load_battery
from checks.gold import GoldError, load_gold
from checks.judgement import Judge, JudgeError, JudgeUnavailableError
from checks.training_sample import derive_contexts
from gate.errors import GateError
from gate.metrics import LEASE_LOSSES, RUNNING, STAGE_SECONDS, STANDING_LOOKUPS
from gate.plan import Plan
from gate.policy import load_policy
from gate.roots import confine
from gate.settings import Settings
from gate.standing import contexts_digest, stands
from gate.store.fence import LeaseLostError, RunInterruptedError
from gate.store.judges import JudgeStore
from gate.store.patience import is_passing
from gate.store.submissions import SubmissionRecord
from gate.store.transcripts import BASELINE, TranscriptRecord
from gate.submission import COMMAND_LINE, TERMINAL, Progress, State, Submission
from gate.tracing import traces
from gate.verdict import Digests
from workers.assignment import Assignment, Decision
from workers.checkpoint.fetching import fetched
from workers.checkpoint.preparation import prepare
from workers.checkpoint.workspace import workspace
from workers.ending import Ending, Watch, tell_end
from workers.engine.client import no_interruption
from workers.engine.command import engine_identity
from workers.engine.warm import WarmEngine
from workers.judge_queue.queued import under
from workers.judges.description import describe_judge
from workers.judging import NOT_ASKED
from workers.lease import Lease
from workers.rounds import Rounds

log = logging.getLogger(__name__)


class Run:
    """Takes submissions to their verdicts with one engine and one judge."""

    def __init__(
        self,
        settings: Settings,
        submissions: SubmissionRecord,
        transcripts: TranscriptRecord,
        judges: JudgeStore,
        engine: WarmEngine,
        load_judge: Callable[[], Judge],
        watch: Watch = lambda _state, _progress: None,
        judge_digest: Callable[[], str] | None = None,
    ) -> None:
        """Wire a run.

        ``load_judge`` is called when the first answer has to be rated, ``judge_digest`` before
        the engine is touched; by default it describes the judge of the settings, once.
        """
        self._settings = settings
        self._submissions = submissions
        self._transcripts = transcripts
        self._judges = judges
        self._engine = engine
        self._load_judge = load_judge
        self._watch = watch
        self._require: Callable[[], None] = no_interruption
        self._judge_digest = judge_digest or lru_cache(maxsize=1)(
            lambda: describe_judge(settings).digest
        )

    def take(self, held: Lease) -> None:
        """Run a submission until it ends, or until its judge does not answer.

        Whatever goes wrong ends it as ``failed``; only a judge that may come back lets it wait.
        Everything is written under the lease: a run that has lost it stops and changes nothing
        more, and neither does one whose submission was cancelled.
        """
        own = copy.copy(self)
        own._submissions = self._submissions.under(held.holder, held.seconds)
        own._transcripts = self._transcripts.under(held.holder, held.seconds)
        own._judges = self._judges.under(held.holder, held.seconds)
        own._require = held.require
        submission = own._submissions.get(held.holder.submission_id)
        if submission.state in TERMINAL:
            return
        told = {"emgate.submission": submission.id, "emgate.policy": submission.policy}
        with (
            traces().span("run", told, submission.traceparent),
            self._engine.interruptible(held.require),
        ):
            own._take(submission, held.worker)

    def _take(self, submission: Submission, worker: str) -> None:
        submission_id = submission.id
        try:
            attempt = self._submissions.begin_attempt(submission_id, worker)
            traces().note({"emgate.attempt": attempt, "emgate.worker": worker})
            with RUNNING.track_inprogress(), bound_contextvars(attempt=attempt):
                log.info("attempt %d begins", attempt)
                self._attempt(submission, attempt)
        except RunInterruptedError as why:
            if isinstance(why, LeaseLostError):
                LEASE_LOSSES.inc()
            log.warning("submission %s: the run stopped: %s", submission_id, why)
            self._ending().leave(submission_id, why)
        except DBAPIError as error:
            if not is_passing(error):
                raise
            log.warning("submission %s: left to another attempt: %s", submission_id, error)

    def _attempt(self, submission: Submission, attempt: int) -> None:
        submission_id, ending = submission.id, self._ending()
        try:
            if attempt > self._settings.attempts:
                raise GateError(ending.why_given_up(submission))
            decision = self._judge_checkpoint(submission)
        except JudgeUnavailableError as error:
            ending.postpone(submission, str(error))
        except (GateError, BatteryError, GoldError, JudgeError) as error:
            ending.fail(submission_id, type(error).__name__, str(error))
        except RunInterruptedError:
            raise
        except Exception as error:
            if is_passing(error):
                raise
            log.exception("submission %s: the gate broke", submission_id)
            message = f"the gate broke: {type(error).__name__}: {error}"
            ending.fail(submission_id, "internal", message)
        else:
            verdict = decision.verdict
            if self._submissions.conclude(submission_id, verdict, decision.standing_since):
                self._submissions.end_attempt(submission_id, "gave the verdict")
                tell_end(verdict.outcome, f"the verdict is {verdict.outcome}")
            self._watch(State.DECIDED, None)

    def _judge_checkpoint(self, submission: Submission) -> Decision:
        policy = load_policy(submission.policy, self._settings.policy_directories)
        battery = load_battery(submission.battery or policy.battery)
        if submission.battery:
            policy = policy.over([check.name for check in battery.checks])
        sample = self._submissions.training_sample(submission.id)
        declared = tuple(context.context() for context in submission.contexts)
        if policy.require_training_sample and not (sample or declared):
            raise GateError(f"policy '{policy.name}' requires a sample of the fine-tuning data")
        contexts = derive_contexts(sample or "", declared)
        identity = engine_identity(self._settings)
        with workspace(self._settings.work_directory) as room, ExitStack() as held:
            with self._stage(submission.id, State.PREPARING):
                checkpoint, base = self._fetch(submission, held)
                prepared = prepare(
                    checkpoint,
                    base,
                    self._settings.device,
                    room,
                    self._confine if _is_confined(submission) else Path,
                )
            plan = Plan(battery, policy, contexts, seed=prepared.candidate.digest)
            gold = load_gold(self._settings.gold_set)
            digests = Digests(
                checkpoint=prepared.candidate.digest,
                base=prepared.base.digest,
                battery=battery.digest,
                policy=policy.digest,
                judge=self._judge_digest() if plan.rated else NOT_ASKED,
                engine=identity,
                contexts=contexts_digest(contexts),
                gold_set=gold.digest if plan.rated else NOT_ASKED,
                gate=version("em-gate"),
            )
            traces().note({"emgate.checkpoint": digests.checkpoint, "emgate.base": digests.base})
            standing = self._standing(submission, digests)
            if standing:
                return standing
            candidate = self._transcripts.open(
                submission.id, prepared.candidate.digest, battery.digest, identity
            )
            baseline = self._transcripts.open(
                BASELINE, prepared.base.digest, battery.digest, identity
            )
            self._submissions.attach(submission.id, candidate, baseline)
            assignment = Assignment(
                submission,
                policy,
                battery,
                prepared,
                contexts,
                plan,
                gold,
                digests,
                candidate,
                baseline,
            )
            return Decision(self._rounds().take(assignment))

    def _standing(self, submission: Submission, digests: Digests) -> Decision | None:
        """The verdict that stands on the same things, unless a fresh one is wanted."""
        if submission.fresh:
            return None
        known = self._submissions.verdicts.newest_run(digests.identity)
        found = known is not None and stands(known.verdict)
        STANDING_LOOKUPS.labels("hit" if found else "miss").inc()
        return Decision(known.verdict, known.submission_id) if known and found else None

    def _fetch(self, submission: Submission, held: ExitStack) -> tuple[Path, Path | None]:
        """The directories of checkpoint and base, which stay until the stack ends."""
        note = partial(self._note, submission.id, State.PREPARING)
        got = [
            held.enter_context(fetched(name, self._settings, note, _is_confined(submission)))
            for name in (submission.checkpoint, submission.base)
            if name is not None
        ]
        names = [source.name for source in got]
        self._submissions.pin(submission.id, names[0], names[1] if submission.base else None)
        return got[0].directory, got[1].directory if submission.base else None

    def _confine(self, directory: str) -> Path:
        return confine(directory, self._settings.checkpoint_roots)

    def _rounds(self) -> Rounds:
        return Rounds(
            self._engine,
            self._transcripts,
            self._judges,
            lambda: under(self._load_judge(), self._require),
            self._settings.attempts,
            self._stage,
            self._note,
        )

    def _ending(self) -> Ending:
        return Ending(self._submissions, self._settings, self._watch, self._note)

    @contextmanager
    def _stage(self, submission_id: str, state: State) -> Iterator[None]:
        self._require()
        self._submissions.move(submission_id, state)
        self._watch(state, None)
        began = time.monotonic()
        with bound_contextvars(state=state.value), traces().span(state.value):
            yield
            seconds = time.monotonic() - began
            log.info("%s took %.1f s", state, seconds, extra={"seconds": round(seconds, 3)})
        STAGE_SECONDS.labels(state).observe(seconds)

    def _note(self, submission_id: str, state: State, done: int, total: int, what: str) -> None:
        self._require()
        progress = Progress(done=done, total=total, what=what)
        self._submissions.note_progress(submission_id, progress)
        self._watch(state, progress)


def _is_confined(submission: Submission) -> bool:
    """Whether roots and allow-list hold; a person at a terminal may name what he likes."""
    return submission.source != COMMAND_LINE
