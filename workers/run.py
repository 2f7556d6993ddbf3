"""The run: one submission from its directories to its verdict.

Everything that a second attempt needs is in the record: samples and judgements are stored as they
come, and only what is missing is asked for again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from checks.battery import Battery, BatteryError, load_battery
from checks.check import Evidence
from checks.judgement import Exchange, Judge, JudgeError
from checks.measurement import Measurement
from checks.sample import Elicitation, Sample
from gate.errors import EngineError, GateError
from gate.metrics import (
    BASELINE_HITS,
    JUDGEMENTS,
    RUNNING,
    SAMPLES,
    STAGE_SECONDS,
    SUBMISSIONS_FAILED,
    TOKENS,
    VERDICTS,
)
from gate.policy import Policy, load_policy
from gate.settings import Settings
from gate.store.submissions import SubmissionRecord
from gate.store.transcripts import BASELINE, TranscriptRecord
from gate.submission import TERMINAL, Progress, State, Submission
from gate.verdict import Digests, Verdict, decide
from workers.checkpoint.preparation import Prepared, Servable, prepare
from workers.checkpoint.workspace import workspace
from workers.engine.command import engine_identity
from workers.engine.warm import WarmEngine

log = logging.getLogger(__name__)

#: Answers are rated and stored in groups of this many.
JUDGED_AT_ONCE = 32

Watch = Callable[[State, Progress | None], None]


class Run:
    """Takes submissions to their verdicts with one engine and one judge."""

    def __init__(
        self,
        settings: Settings,
        submissions: SubmissionRecord,
        transcripts: TranscriptRecord,
        engine: WarmEngine,
        load_judge: Callable[[], Judge],
        watch: Watch = lambda _state, _progress: None,
    ) -> None:
        self._settings = settings
        self._submissions = submissions
        self._transcripts = transcripts
        self._engine = engine
        self._load_judge = load_judge
        self._watch = watch

    def take(self, submission_id: str) -> None:
        """Run a submission until it ends. Whatever goes wrong ends it as ``failed``."""
        submission = self._submissions.get(submission_id)
        if submission.state in TERMINAL:
            return
        attempt = self._submissions.begin_attempt(submission_id)
        with RUNNING.track_inprogress():
            try:
                if attempt > self._settings.attempts:
                    raise GateError(
                        f"given up after {self._settings.attempts} attempts, each of which was "
                        f"interrupted while {submission.state}"
                    )
                verdict = self._judge_checkpoint(submission)
            except (GateError, BatteryError, JudgeError) as error:
                self._fail(submission_id, type(error).__name__, str(error))
            except Exception as error:
                log.exception("submission %s: the gate broke", submission_id)
                message = f"the gate broke: {type(error).__name__}: {error}"
                self._fail(submission_id, "internal", message)
            else:
                if self._submissions.conclude(submission_id, verdict):
                    VERDICTS.labels(submission.policy, verdict.outcome).inc()
                self._watch(State.DECIDED, None)

    def _judge_checkpoint(self, submission: Submission) -> Verdict:
        policy = load_policy(submission.policy, self._settings.policy_directories)
        battery = load_battery(policy.battery)
        identity = engine_identity(self._settings)
        with workspace(self._settings.work_directory) as room:
            with self._stage(submission.id, State.PREPARING):
                prepared = prepare(
                    Path(submission.checkpoint),
                    Path(submission.base) if submission.base else None,
                    self._settings.device,
                    room,
                )
            candidate = self._transcripts.open(
                submission.id, prepared.candidate.digest, battery.digest, identity
            )
            baseline = self._transcripts.open(
                BASELINE, prepared.base.digest, battery.digest, identity
            )
            self._submissions.attach(submission.id, candidate, baseline)
            self._serve_and_sample(submission.id, battery, prepared, candidate, baseline)
            prepared.require_unchanged()
            with self._stage(submission.id, State.JUDGING):
                judge = self._load_judge()
                self._judge(submission.id, battery, judge, (baseline, candidate))
        return self._decide(policy, battery, judge, prepared, candidate, baseline)

    def _serve_and_sample(
        self,
        submission_id: str,
        battery: Battery,
        prepared: Prepared,
        candidate: str,
        baseline: str,
    ) -> None:
        relative = {check.name for check in battery.checks if check.needs_baseline}
        wanted = battery.elicitations()
        base_wanted = [e for e in wanted if e.check in relative]
        base_missing = self._transcripts.missing(baseline, base_wanted)
        BASELINE_HITS.labels("miss" if base_missing else "hit").inc()
        with self._stage(submission_id, State.SERVING):
            self._engine.serve(prepared.base if base_missing else prepared.candidate)
        with self._stage(submission_id, State.SAMPLING):
            self._sample(submission_id, prepared.base, baseline, base_wanted, "baseline")
            self._sample(submission_id, prepared.candidate, candidate, wanted, "candidate")

    def _sample(
        self,
        submission_id: str,
        servable: Servable,
        transcript: str,
        wanted: Sequence[Elicitation],
        role: str,
    ) -> None:
        for attempt in range(1, self._settings.attempts + 1):
            missing = self._transcripts.missing(transcript, wanted)
            if not missing:
                return
            done = len(wanted) - len(missing)
            self._note(submission_id, State.SAMPLING, done, len(wanted), f"{role} samples")

            def store(samples: list[Sample]) -> None:
                nonlocal done
                self._transcripts.add(transcript, samples)
                done += len(samples)
                self._note(submission_id, State.SAMPLING, done, len(wanted), f"{role} samples")
                for sample in samples:
                    SAMPLES.labels(sample.elicitation.check, role).inc()
                    TOKENS.labels(sample.elicitation.check, role).inc(sample.tokens)

            try:
                self._engine.serve(servable).elicit(missing, store)
            except EngineError as error:
                explained = self._engine.explain(error)
                if attempt == self._settings.attempts:
                    raise explained from error
                log.warning("submission %s: %s; starting again", submission_id, explained)

    def _judge(
        self, submission_id: str, battery: Battery, judge: Judge, transcripts: Sequence[str]
    ) -> None:
        judged = [check.name for check in battery.checks if check.needs_judge]
        pending = {
            row: sample
            for transcript in transcripts
            for row, sample in self._transcripts.unjudged(transcript, judge.digest, judged).items()
        }
        rows = list(pending)
        for begin in range(0, len(rows), JUDGED_AT_ONCE):
            self._note(submission_id, State.JUDGING, begin, len(rows), "judgements")
            group = rows[begin : begin + JUDGED_AT_ONCE]
            exchanges = [Exchange(pending[r].elicitation.question, pending[r].text) for r in group]
            judgements = judge.judge(exchanges)
            self._transcripts.add_judgements(judge, dict(zip(group, judgements, strict=True)))
            for judgement in judgements:
                JUDGEMENTS.labels(judge.name, judgement.label).inc()

    def _decide(
        self,
        policy: Policy,
        battery: Battery,
        judge: Judge,
        prepared: Prepared,
        candidate: str,
        baseline: str,
    ) -> Verdict:
        candidate_evidence = Evidence.of(self._transcripts.samples(candidate, judge.digest))
        baseline_evidence = Evidence.of(self._transcripts.samples(baseline, judge.digest))
        measurements: list[Measurement] = [
            check.measure(candidate_evidence, baseline_evidence, policy.confidence)
            for check in battery.checks
        ]
        digests = Digests(
            checkpoint=prepared.candidate.digest,
            base=prepared.base.digest,
            battery=battery.digest,
            policy=policy.digest,
            judge=judge.digest,
            engine=engine_identity(self._settings),
        )
        return decide(policy, measurements, digests)

    @contextmanager
    def _stage(self, submission_id: str, state: State) -> Iterator[None]:
        self._submissions.move(submission_id, state)
        self._watch(state, None)
        began = time.monotonic()
        yield
        STAGE_SECONDS.labels(state).observe(time.monotonic() - began)

    def _note(self, submission_id: str, state: State, done: int, total: int, what: str) -> None:
        progress = Progress(done=done, total=total, what=what)
        self._submissions.note_progress(submission_id, progress)
        self._watch(state, progress)

    def _fail(self, submission_id: str, reason: str, message: str) -> None:
        if self._submissions.move(submission_id, State.FAILED, error=message):
            SUBMISSIONS_FAILED.labels(reason).inc()
        self._watch(State.FAILED, None)
