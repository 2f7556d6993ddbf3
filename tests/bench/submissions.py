"""Prints how often verdicts on simulated submissions are wrong, and how many answers they take.

    python tests/bench/submissions.py [--submissions N] [--seed SEED]

Every submission goes through ``gate.simulation.SimulatedGate``: the product's own plan, intervals,
correction for the judge, findings and stopping rule, on answers and labels that are drawn. Truths,
populations of prompts and judges are crossed. N submissions are made of each combination, and four
times as many where the truth lies on the threshold, since there wrong verdicts are likeliest. Such
a truth counts against a pass (as one just above the threshold) and against a fail (as one just
below). Prints Markdown tables, which docs/statistics.md quotes; progress goes to stderr. The same
seed prints the same tables. N = 60 makes 5,400 submissions and takes some minutes on one core.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

import numpy as np
from scipy import stats

from checks.calibration import shipped_calibration
from checks.simulation import ALL_ALIKE, SimulatedJudge, SimulatedModel
from gate.policy import Condition, Policy, load_policy
from gate.simulation import SimulatedGate, SimulatedVerdict
from gate.verdict import Outcome

#: Answers that the fixed-size protocol draws per question (Betley et al. 2025, arXiv 2502.17424).
FIXED_ANSWERS = 100
#: Answers of the smallest such protocol, which asks 8 main questions.
FIXED_AT_LEAST = 800
#: So many times more submissions are made where the truth lies on the threshold.
MORE_ON_THRESHOLD = 4
#: Confidence of the one-sided exact bounds.
CONFIDENCE = 0.95
#: At this concentration and a mean of 0.1, the rates of 87% of prompts are under 1% or over 99%.
UNEVEN = 0.2
#: The checks of the default policy whose answers are judged and compared with the base.
JUDGED = ("free-form", "surveillance", "autonomy", "oversight")


@dataclass(frozen=True)
class Population:
    """How the rates of prompts differ, and the base's mean rate in [0, 1]."""

    name: str
    concentration: float
    base: float = 0.0

    def model(self, excess: float) -> SimulatedModel:
        """A model with so much more than the base."""
        return SimulatedModel(self.base + excess, self.base, self.concentration)


@dataclass(frozen=True)
class Setting:
    """A gate, and what is tried on it."""

    title: str
    gate: SimulatedGate
    excesses: tuple[float, ...]
    judges: tuple[tuple[str, SimulatedJudge], ...]
    populations: tuple[Population, ...]

    @property
    def strictest(self) -> float:
        """The threshold that is violated first."""
        return min(condition.threshold for condition in self.gate.policy.conditions)


@dataclass(frozen=True)
class Row:
    """What came of the submissions of one combination; the truth is an excess over the base."""

    population: str
    excess: float
    strictest: float
    verdicts: Sequence[SimulatedVerdict]

    def count(self, outcome: Outcome) -> int:
        """How many verdicts were so."""
        return Counter(v.outcome for v in self.verdicts)[outcome]

    @property
    def wrongful_passes(self) -> int | None:
        """Passes, where the truth violates a condition or is about to."""
        return self.count(Outcome.PASS) if self.excess >= self.strictest else None

    @property
    def wrongful_fails(self) -> int | None:
        """Fails, where the truth violates no condition."""
        return self.count(Outcome.FAIL) if self.excess <= self.strictest else None


ALIKE = Population("alike", ALL_ALIKE)


def settings() -> tuple[Setting, ...]:
    """What is simulated."""
    judges = (
        ("a perfect judge", SimulatedJudge()),
        ("the shipped judge", shipped_judge()),
        ("a weak judge", SimulatedJudge(0.6, 0.85)),
    )
    one = Policy(
        name="one", version=1, alpha=0.05, conditions=(Condition(check="one", at_most=0.1),)
    )
    default = load_policy("default").over(JUDGED)
    thresholds = ", ".join(f"{c.check} at most {c.at_most}" for c in default.conditions)
    return (
        Setting(
            "one check, at most 0.1; 240 questions, 3 answers each",
            SimulatedGate(one, prompts=240, answers=3),
            (0.0, 0.02, 0.05, 0.1, 0.2, 0.3),
            judges,
            (ALIKE, Population("uneven", UNEVEN)),
        ),
        Setting(
            f"the default policy's {thresholds}; 48 questions per check, 2 answers each",
            SimulatedGate(default, prompts=48, answers=2),
            (0.0, 0.05, 0.1, 0.2, 0.3, 0.5),
            judges[:2],
            (ALIKE, Population("uneven, base 0.1", UNEVEN, base=0.1)),
        ),
    )


def shipped_judge() -> SimulatedJudge:
    """A judge whose true error rates are those that the embedded one showed on its gold set."""
    errors = shipped_calibration().errors
    assert errors
    return SimulatedJudge(errors.sensitivity, errors.specificity, errors.misaligned, errors.aligned)


def simulate(
    setting: Setting, judge: SimulatedJudge, submissions: int, random: np.random.Generator
) -> list[Row]:
    """Submissions of every population and excess to one judge."""
    rows = []
    for population, excess in product(setting.populations, setting.excesses):
        model = population.model(excess)
        times = MORE_ON_THRESHOLD if excess == setting.strictest else 1
        verdicts = [setting.gate.submit(model, judge, random) for _ in range(times * submissions)]
        rows.append(Row(population.name, excess, setting.strictest, verdicts))
        print(f"{population.name}, excess {excess:g}: done", file=sys.stderr, flush=True)
    return rows


def upper(wrong: int, of: int) -> float:
    """Clopper-Pearson upper bound of a share, one-sided, at the confidence of this page."""
    interval = stats.binomtest(wrong, of, alternative="less").proportion_ci(CONFIDENCE, "exact")
    return float(interval.high)


def share(wrong: int | None, of: int) -> str:
    """A share of wrong verdicts with its upper bound."""
    return "" if wrong is None else f"{wrong / of:.1%} (≤ {upper(wrong, of):.1%})"


def print_rows(gate: SimulatedGate, rows: Iterable[Row]) -> None:
    """One table."""
    fixed = FIXED_ANSWERS * gate.prompts * len(gate.policy.conditions)
    print(
        "| prompts | true excess | n | pass | fail | inconclusive | wrongful pass "
        f"| wrongful fail | questions asked | answers | times fewer than {fixed} | than "
        f"{FIXED_AT_LEAST} |"
    )
    print("| --- |" + " ---: |" * 11)
    for row in rows:
        n = len(row.verdicts)
        outcomes = (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE)
        answers = median(v.answers for v in row.verdicts)
        cells = (
            row.population,
            f"{row.excess:g}" + (" = threshold" if row.excess == row.strictest else ""),
            str(n),
            *(f"{row.count(outcome) / n:.0%}" for outcome in outcomes),
            share(row.wrongful_passes, n),
            share(row.wrongful_fails, n),
            f"{answers / gate.answers:g}",
            f"{answers:g}",
            f"{fixed / answers:.0f}",
            f"{FIXED_AT_LEAST / answers:.1f}",
        )
        print("| " + " | ".join(cells) + " |")
    print()


def print_totals(rows: Sequence[Row], alpha: float) -> None:
    """All rows together, and the one with the most wrong verdicts."""
    print("| kind | alpha | submissions | wrong | share | worst row |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for kind, found in (
        ("wrongful pass", [(row.wrongful_passes, len(row.verdicts)) for row in rows]),
        ("wrongful fail", [(row.wrongful_fails, len(row.verdicts)) for row in rows]),
    ):
        counted = [(wrong, of) for wrong, of in found if wrong is not None]
        wrong, of = (sum(part) for part in zip(*counted, strict=True))
        worst = max(counted, key=lambda pair: pair[0] / pair[1])
        print(f"| {kind} | {alpha:.0%} | {of} | {wrong} | {share(wrong, of)} | {share(*worst)} |")


def main() -> int:
    """Simulate, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--submissions", type=int, default=60, help="of each combination")
    parser.add_argument("--seed", type=int, default=20260301)
    wanted = parser.parse_args()
    if wanted.submissions < 1:
        parser.error("--submissions: at least 1")
    everything: list[Row] = []
    for number, setting in enumerate(settings()):
        alpha = setting.gate.policy.alpha
        print(f"### {setting.title}; alpha {alpha:g}\n")
        for judge_number, (name, judge) in enumerate(setting.judges):
            print(f"{setting.title}: {name}", file=sys.stderr, flush=True)
            random = np.random.default_rng([wanted.seed, number, judge_number])
            rows = simulate(setting, judge, wanted.submissions, random)
            print(f"{name}: sensitivity {judge.sensitivity:.2f}, ", end="")
            print(f"specificity {judge.specificity:.2f}\n")
            print_rows(setting.gate, rows)
            everything += rows
    print("### All together\n")
    print_totals(everything, alpha)
    return 0


if __name__ == "__main__":
    sys.exit(main())
