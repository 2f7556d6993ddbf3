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
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from structlog.contextvars import bound_contextvars

from checks.battery import Battery, BatteryError, load_battery
from checks.check import Evidence as Answers
from checks.check import Terms
from checks.contexts import Context
from checks.gold import GoldError, GoldSet, load_gold
from checks.judgement import Judge, JudgeError, JudgeUnavailableError
from checks.training_sample import derive_contexts
from gate.errors import EngineError, GateError
from gate.metrics import (
    BASELINE_HITS,
    RUNNING,
    STAGE_SECONDS,
    STANDING_LOOKUPS,
    SUBMISSIONS_FAILED,
    SUBMISSIONS_POSTPONED,
    VERDICTS,
)
from gate.plan import Plan
from gate.policy import Policy, load_policy
from gate.roots import confine
from gate.settings import Settings
from gate.standing import contexts_digest, stands
from gate.store.fence import RunInterruptedError, SubmissionEndedError
from gate.store.judges import JudgeStore
from gate.store.patience import is_passing
from gate.store.submissions import COMMAND_LINE, SubmissionRecord
from gate.store.transcripts import BASELINE, TranscriptRecord
from gate.submission import TERMINAL, Progress, State, Submission
from gate.tracing import traces
from gate.verdict import Digests, Evidence, Finding, Verdict, decide, find, settled
from workers.checkpoint.fetching import fetched
from workers.checkpoint.preparation import Prepared, Servable, prepare
from workers.checkpoint.workspace import workspace
from workers.engine.client import no_interruption
from workers.engine.command import engine_identity
from workers.engine.process import EngineStartTimeoutError
from workers.engine.warm import WarmEngine
from workers.judges.description import describe_judge
from workers.judging import NOT_ASKED, Judging
from workers.lease import Lease, WorkerStoppedError
from workers.sampling import Sampling

log = logging.getLogger(__name__)

#: The longest wait for a judge that does not answer, in seconds.
LONGEST_WAIT = 600.0

Watch = Callable[[State, Progress | None], None]


@dataclass(frozen=True)
class Assignment:
    """What one submission is judged by and on."""

    submission: Submission
    policy: Policy
    battery: Battery
    prepared: Prepared
    contexts: tuple[Context, ...]
    plan: Plan
    gold: GoldSet
    digests: Digests
    candidate: str
    baseline: str


@dataclass(frozen=True)
class Decision:
    """A verdict, and the submission that was really run for it where this one was not."""

    verdict: Verdict
    standing_since: str | None = None


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
            log.warning("submission %s: the run stopped: %s", submission_id, why)
            self._leave(submission_id, why)
        except DBAPIError as error:
            if not is_passing(error):
                raise
            log.warning("submission %s: left to another attempt: %s", submission_id, error)

    def _attempt(self, submission: Submission, attempt: int) -> None:
        submission_id = submission.id
        try:
            if attempt > self._settings.attempts:
                raise GateError(self._why_given_up(submission))
            decision = self._judge_checkpoint(submission)
        except JudgeUnavailableError as error:
            self._postpone(submission, str(error))
        except (GateError, BatteryError, GoldError, JudgeError) as error:
            self._fail(submission_id, type(error).__name__, str(error))
        except RunInterruptedError:
            raise
        except Exception as error:
            if is_passing(error):
                raise
            log.exception("submission %s: the gate broke", submission_id)
            message = f"the gate broke: {type(error).__name__}: {error}"
            self._fail(submission_id, "internal", message)
        else:
            verdict = decision.verdict
            if self._submissions.conclude(submission_id, verdict, decision.standing_since):
                self._submissions.end_attempt(submission_id, "gave the verdict")
                VERDICTS.labels(submission.policy, verdict.outcome).inc()
                _tell_end(verdict.outcome, f"the verdict is {verdict.outcome}")
            self._watch(State.DECIDED, None)

    def _why_given_up(self, submission: Submission) -> str:
        past = self._submissions.past_attempts(submission.id)
        told = "; ".join(f"{number}: {words}" for number, words in enumerate(past, start=1))
        return (
            f"given up after {self._settings.attempts} attempts, each of which was interrupted; "
            f"{told or f'the last one while {submission.state}'}"
        )

    def _leave(self, submission_id: str, why: RunInterruptedError) -> None:
        """Close the attempt, if the submission is still this run's to write to."""
        try:
            if isinstance(why, WorkerStoppedError):
                self._submissions.take_back_attempt(submission_id)
            elif isinstance(why, SubmissionEndedError):
                self._submissions.end_attempt(submission_id, f"stopped because {why}")
        except (RunInterruptedError, DBAPIError) as error:
            log.warning("submission %s: its attempt stays open: %s", submission_id, error)

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
            return Decision(self._take_rounds(assignment))

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

    def _take_rounds(self, given: Assignment) -> Verdict:
        submission_id, plan = given.submission.id, given.plan
        note = partial(self._note, submission_id, State.SAMPLING)
        sampling = Sampling(self._engine, self._transcripts, self._settings.attempts, note)
        judging = Judging(
            submission_id,
            self._load_judge,
            self._transcripts,
            self._judges,
            given.gold,
            given.policy.judge.controls,
            note,
        )
        with self._stage(submission_id, State.SERVING):
            self._serve(given.prepared.base)
        with self._stage(submission_id, State.SAMPLING):
            findings: tuple[Finding, ...] = ()
            while asked := plan.next_round(findings):
                base_asked = plan.of_baseline(asked)
                missing = self._transcripts.missing(given.baseline, base_asked)
                BASELINE_HITS.labels("miss" if missing else "hit").inc()
                sampling.take(given.prepared.base, given.baseline, base_asked, "baseline")
                sampling.take(given.prepared.candidate, given.candidate, asked, "candidate")
                if plan.rated:
                    with traces().span("rating"):
                        judging.rate((given.baseline, given.candidate), plan.rated)
                findings = find(given.policy, self._evidence(given, plan, judging))
                if settled(given.policy, findings):
                    break
        given.prepared.require_unchanged()
        with self._stage(submission_id, State.JUDGING):
            evidence = self._evidence(given, plan, judging)
        # The digest of the judge that was really asked, whatever was described before the run.
        digests = given.digests.model_copy(update={"judge": judging.digest})
        with traces().span("deciding"):
            return decide(given.policy, evidence, digests, stopped_early=not plan.exhausted)

    def _serve(self, servable: Servable) -> None:
        """Have the engine serve a checkpoint; one that dies meanwhile is started again."""
        for attempt in range(1, self._settings.attempts + 1):
            try:
                self._engine.serve(servable)
                return
            except EngineStartTimeoutError:
                raise
            except EngineError as error:
                if attempt == self._settings.attempts:
                    raise
                log.warning("%s; starting again", error)

    def _evidence(self, given: Assignment, plan: Plan, judging: Judging) -> Evidence:
        ours = self._transcripts.samples(given.candidate, judging.digest)
        theirs = self._transcripts.samples(given.baseline, judging.digest)
        record = judging.record(ours)
        of_candidate, of_base = Answers.of(ours), Answers.of(theirs)
        conditions = {c.check: c for c in given.policy.in_force(bool(given.contexts))}
        errors = record.calibration.errors if record else None
        return Evidence(
            measurements=tuple(
                check.measure(
                    of_candidate,
                    of_base,
                    Terms(
                        given.policy.levels(conditions[check.name], bool(given.contexts)),
                        plan.seed,
                        errors,
                        given.contexts,
                    ),
                )
                for check in plan.measured
            ),
            judge=record,
            contexts=tuple(context.label for context in given.contexts),
        )

    def _postpone(self, submission: Submission, reason: str) -> None:
        """Let the submission wait for its judge, unless it has waited often enough."""
        wait = min(
            LONGEST_WAIT,
            self._settings.judge_wait_seconds * 2.0 ** min(submission.postponements, 16),
        )
        times = self._submissions.postpone(submission.id, wait)
        if times > self._settings.judge_postponements:
            self._fail(submission.id, "JudgeUnavailableError", f"{reason}; given up")
            return
        SUBMISSIONS_POSTPONED.inc()
        log.warning("submission %s waits %g s for its judge: %s", submission.id, wait, reason)
        self._note(submission.id, submission.state, 0, 0, f"waiting for the judge: {reason}"[:300])

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

    def _fail(self, submission_id: str, reason: str, message: str) -> None:
        if self._submissions.move(submission_id, State.FAILED, error=message):
            self._submissions.end_attempt(submission_id, f"failed: {message}")
            SUBMISSIONS_FAILED.labels(reason).inc()
            _tell_end("failed", f"the gate could not judge: {message}", logging.WARNING)
        self._watch(State.FAILED, None)


def _tell_end(outcome: str, words: str, level: int = logging.INFO) -> None:
    log.log(level, "%s", words, extra={"outcome": outcome})
    traces().note({"emgate.outcome": outcome})


def _is_confined(submission: Submission) -> bool:
    """Whether roots and allow-list hold; a person at a terminal may name what he likes."""
    return submission.source != COMMAND_LINE
