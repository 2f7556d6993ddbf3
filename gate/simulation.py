"""Simulated submissions: what a policy decides on models whose truth is known.

A submission goes round by round through the same plan, findings and stopping rule as a real one
(``workers.run``); only engine and judge are replaced by what ``checks.simulation`` draws. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from checks.battery import Battery
from checks.calibration import Calibration
from checks.judge_errors import JUDGE_SHARE, JudgeErrors
from checks.measurement import Estimate, Levels, Measurement
from checks.rounds import PROMPTS_PER_ROUND
from checks.simulation import (
    Shares,
    SimulatedJudge,
    SimulatedModel,
    excess_estimate,
    seen_excess,
    simulated_check,
)
from gate.judge_record import JudgeRecord
from gate.plan import Plan
from gate.policy import Condition, Policy
from gate.verdict import Evidence, Finding, Outcome, find, outcome_of, settled


@dataclass(frozen=True, slots=True)
class SimulatedVerdict:
    """What a policy said of a simulated submission.

    ``answers`` counts those of the candidate; the base gives as many. ``prompts`` counts those
    asked of each check.
    """

    outcome: Outcome
    answers: int
    prompts: Mapping[str, int]


@dataclass(frozen=True)
class SimulatedGate:
    """A policy on checks of judged questions, each with ``at_most`` a misaligned excess.

    ``prompts`` is how many questions each check has and ``answers`` how often each is asked;
    ``prompts_per_round`` lie between two looks.
    """

    policy: Policy
    prompts: int
    answers: int = 1
    prompts_per_round: int = PROMPTS_PER_ROUND

    def submit(
        self, model: SimulatedModel, judge: SimulatedJudge, random: np.random.Generator
    ) -> SimulatedVerdict:
        """Take one submission to its verdict; its truth is the same in every check."""
        record = _record(judge, self.policy.judge.controls, random)
        ends = [*range(self.prompts_per_round, self.prompts, self.prompts_per_round), self.prompts]
        looks = {
            condition.check: _Looks(
                condition,
                self.policy.levels(condition, contexts=False),
                record.calibration.errors,
                seen_excess(model, judge, self.prompts, self.answers, random),
                ends,
            )
            for condition in self.policy.conditions
        }
        plan = Plan(self._battery(), self.policy, (), "", prompts_per_round=self.prompts_per_round)
        asked_of: Counter[str] = Counter()
        findings: tuple[Finding, ...] = ()
        while asked := plan.next_round(findings):
            asked_of.update(elicitation.check for elicitation in asked)
            evidence = Evidence(
                measurements=tuple(
                    look.measured(asked_of[name] // self.answers) for name, look in looks.items()
                ),
                judge=record,
            )
            findings = find(self.policy, evidence)
            if settled(self.policy, findings):
                break
        return SimulatedVerdict(
            outcome=outcome_of(findings),
            answers=asked_of.total(),
            prompts={name: asked // self.answers for name, asked in asked_of.items()},
        )

    def _battery(self) -> Battery:
        checks = tuple(
            simulated_check(condition.check, self.prompts, self.answers)
            for condition in self.policy.conditions
        )
        return Battery(id="simulated", version=1, checks=checks, content="")


class _Looks:
    """What one check's interval is at each look."""

    def __init__(
        self,
        condition: Condition,
        levels: Levels,
        errors: JudgeErrors | None,
        values: Shares,
        ends: Sequence[int],
    ) -> None:
        self._condition = condition
        self._levels = levels
        self._errors = errors
        self._values = values
        self._ends = ends
        self._estimate = cache(self._computed)
        self._last_open, self._decisive = self._search()

    def measured(self, prompts: int) -> Measurement:
        """The measurement at the look after so many prompts, up to the first that decides."""
        is_open = self._decisive is None or prompts < self._decisive
        return Measurement(
            check=self._condition.check,
            judged=True,
            metric="simulated",
            unit="share",
            levels=self._levels,
            estimate=self._estimate(self._last_open if is_open else prompts),
            prompts=prompts,
            samples=prompts,
        )

    def _search(self) -> tuple[int, int | None]:
        """The last look that leaves the condition open, and the next, which decides it.

        The bounds of a confidence sequence close in on one another as prompts come, except where
        one is held back by the mean. So what is open at one look was open at all before it, and
        halving finds the first that decides; this saves most of the time of a simulation.
        """
        first = bisect_left(self._ends, True, key=self._decides)
        if first and self._held_back(self._ends[first - 1]):
            decisive = (look for look, end in enumerate(self._ends) if self._decides(end))
            first = next(decisive, len(self._ends))
        before = self._ends[first - 1] if first else 0
        return before, self._ends[first] if first < len(self._ends) else None

    def _computed(self, prompts: int) -> Estimate | None:
        return excess_estimate(self._values[:prompts], self._levels, self._errors)

    def _decides(self, prompts: int) -> bool:
        found = self._estimate(prompts)
        threshold = self._condition.threshold
        return found is not None and not found.lower <= threshold < found.upper

    def _held_back(self, prompts: int) -> bool:
        """Whether the mean holds a bound back; seen before the correction, which moves bounds."""
        levels = self._levels if self._errors is None else self._levels.times(1 - JUDGE_SHARE)
        seen = excess_estimate(self._values[:prompts], levels, None)
        return seen is not None and not seen.lower < seen.value < seen.upper


def _record(judge: SimulatedJudge, controls: int, random: np.random.Generator) -> JudgeRecord:
    return JudgeRecord(
        name="simulated",
        calibration=Calibration(
            judge="simulated",
            judge_digest="",
            gold_digest="",
            answers=judge.misaligned + judge.aligned,
            errors=judge.calibrated(random),
            sensitivity=None,
            specificity=None,
            auc=None,
            kappa=None,
            incoherent_found=None,
            coherent_kept=None,
            confusion={},
        ),
        controls=judge.labelled(controls // 2, controls // 2, random),
        controls_given=controls,
    )
