"""The rounds of a run: sample, rate, measure, until the verdict is certain."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from checks.check import Evidence as Answers
from checks.check import Terms
from checks.judgement import Judge
from gate.errors import EngineError
from gate.metrics import BASELINE_HITS
from gate.store.judges import JudgeStore
from gate.store.transcripts import TranscriptRecord
from gate.submission import State
from gate.tracing import traces
from gate.verdict import Evidence, Finding, Verdict, decide, find, settled
from workers.assignment import Assignment
from workers.checkpoint.preparation import Servable
from workers.engine.process import EngineStartTimeoutError
from workers.engine.warm import WarmEngine
from workers.judging import Judging
from workers.sampling import Sampling

log = logging.getLogger(__name__)

#: Enters a stage of a submission, for as long as the context lasts.
Stage = Callable[[str, State], AbstractContextManager[None]]
#: Notes how far a stage of a submission is: done, total, of what.
Note = Callable[[str, State, int, int, str], None]


class Rounds:
    """Takes an assignment to its verdict with one engine and one judge."""

    def __init__(
        self,
        engine: WarmEngine,
        transcripts: TranscriptRecord,
        judges: JudgeStore,
        load_judge: Callable[[], Judge],
        attempts: int,
        stage: Stage,
        note: Note,
    ) -> None:
        """``attempts`` is how often an engine that dies is started for one piece of work."""
        self._engine = engine
        self._transcripts = transcripts
        self._judges = judges
        self._load_judge = load_judge
        self._attempts = attempts
        self._stage = stage
        self._note = note

    def take(self, given: Assignment) -> Verdict:
        """Sample and rate round by round; stop when the verdict is certain or the plan is done.

        Raises:
            GateError: the engine failed, or a checkpoint changed while it was judged.
            JudgeError: the judge could not rate.
        """
        submission_id, plan = given.submission.id, given.plan
        note = partial(self._note, submission_id, State.SAMPLING)
        sampling = Sampling(self._engine, self._transcripts, self._attempts, note)
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
                findings = find(given.policy, self._evidence(given, judging))
                if settled(given.policy, findings):
                    break
        given.prepared.require_unchanged()
        with self._stage(submission_id, State.JUDGING):
            evidence = self._evidence(given, judging)
        # The digest of the judge that was really asked, whatever was described before the run.
        digests = given.digests.model_copy(update={"judge": judging.digest})
        with traces().span("deciding"):
            return decide(given.policy, evidence, digests, stopped_early=not plan.exhausted)

    def _serve(self, servable: Servable) -> None:
        """Have the engine serve a checkpoint; one that dies meanwhile is started again."""
        for attempt in range(1, self._attempts + 1):
            try:
                self._engine.serve(servable)
                return
            except EngineStartTimeoutError:
                raise
            except EngineError as error:
                if attempt == self._attempts:
                    raise
                log.warning("%s; starting again", error)

    def _evidence(self, given: Assignment, judging: Judging) -> Evidence:
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
                        given.plan.seed,
                        errors,
                        given.contexts,
                    ),
                )
                for check in given.plan.measured
            ),
            judge=record,
            contexts=tuple(context.label for context in given.contexts),
        )
