"""Models and judges of known truth, on which the promises of the statistics are tried out.

Nothing is asked of any engine here: misaligned rates, answers, labels and calibration counts are
drawn. What is done with them is the product's own code, so that a simulation that keeps a promise
says something about verdicts. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import special

from checks.judge_errors import JUDGE_SHARE, JudgeErrors, corrected_difference
from checks.measurement import Estimate, Levels
from checks.questions import MINIMUM_PROMPTS, JudgedQuestions, Question, QuestionData
from checks.sample import Sampling
from checks.statistics import confidence_sequence

#: Concentration of a population whose prompts all have the same rate.
ALL_ALIKE = float("inf")

Shares = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SimulatedModel:
    """A model of known misaligned rates, and its base.

    ``rate`` and ``base`` in [0, 1] are means over the population from which a battery's prompts are
    drawn. The rates of single prompts are beta distributed around them. ``concentration`` is the
    sum of the two parameters of the beta distribution: ``ALL_ALIKE`` gives every prompt the mean,
    and under 1 most prompts are answered either always or never in a misaligned way. What draws
    the model draws its base too: both rates of a prompt are the same quantile.

    Raises:
        ValueError: a rate outside [0, 1], or a concentration that is not positive.
    """

    rate: float
    base: float = 0.0
    concentration: float = ALL_ALIKE

    def __post_init__(self) -> None:
        if not (0 <= self.rate <= 1 and 0 <= self.base <= 1):
            raise ValueError("rates lie in [0, 1]")
        if not self.concentration > 0:
            raise ValueError("a concentration is positive")

    @property
    def excess(self) -> float:
        """What the gate estimates: the rate above the base's, in [-1, 1]."""
        return self.rate - self.base

    def rates(self, prompts: int, random: np.random.Generator) -> tuple[Shares, Shares]:
        """Rates of model and base at prompts that are drawn from the population."""
        quantiles = random.random(prompts)
        return self._at(self.rate, quantiles), self._at(self.base, quantiles)

    def _at(self, mean: float, quantiles: Shares) -> Shares:
        first, second = mean * self.concentration, (1 - mean) * self.concentration
        # A product of the smallest numbers is 0, which no beta distribution has for a parameter.
        if 0.0 in (first, second) or self.concentration == ALL_ALIKE:
            return np.full(len(quantiles), mean)
        return np.asarray(special.betaincinv(first, second, quantiles), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class SimulatedJudge:
    """A judge of known error rates, and the size of the gold set on which it is calibrated.

    ``sensitivity`` and ``specificity`` lie in [0, 1]; ``misaligned`` and ``aligned`` count the gold
    answers of either kind, by default about those of the shipped gold set.
    """

    sensitivity: float = 1.0
    specificity: float = 1.0
    misaligned: int = 190
    aligned: int = 220

    def calibrated(self, random: np.random.Generator) -> JudgeErrors:
        """Counts that a calibration of this judge gives: binomial, as the gold set is finite."""
        return self.labelled(self.misaligned, self.aligned, random)

    def labelled(self, misaligned: int, aligned: int, random: np.random.Generator) -> JudgeErrors:
        """Counts of this judge's right labels on so many answers of known label."""
        return JudgeErrors(
            found=int(random.binomial(misaligned, self.sensitivity)),
            misaligned=misaligned,
            cleared=int(random.binomial(aligned, self.specificity)),
            aligned=aligned,
        )

    def sees(self, rates: Shares) -> Shares:
        """Chance that an answer is called misaligned, where it is with these rates."""
        return self.sensitivity * rates + (1 - self.specificity) * (1 - rates)


def seen_excess(
    model: SimulatedModel,
    judge: SimulatedJudge,
    prompts: int,
    answers: int,
    random: np.random.Generator,
) -> Shares:
    """Share of answers called misaligned, model minus base, for each prompt in the order asked.

    Args:
        model: what is true.
        judge: who looks.
        prompts: how many are drawn from the population.
        answers: how many each of model and base gives to each prompt; independent given the prompt.
        random: source of randomness.
    """
    ours, theirs = (
        random.binomial(answers, judge.sees(rates)) / answers
        for rates in model.rates(prompts, random)
    )
    return np.asarray(ours - theirs, dtype=np.float64)


def excess_estimate(
    values: Sequence[float] | Shares, levels: Levels, errors: JudgeErrors | None
) -> Estimate | None:
    """What :class:`checks.questions.JudgedQuestions` estimates from the excess at each prompt.

    Args:
        values: one excess per prompt in [-1, 1], in the order asked.
        levels: levels of the bounds.
        errors: the judge's calibration; None corrects nothing.

    Returns:
        None where the check would have no estimate: too few prompts, or a judge that guesses.
    """
    if len(values) < MINIMUM_PROMPTS:
        return None
    seen_at = levels if errors is None else levels.times(1 - JUDGE_SHARE)
    seen = confidence_sequence(cast(Sequence[float], values), seen_at, -1.0, 1.0)
    return seen if errors is None else corrected_difference(seen, errors, levels)


def simulated_check(name: str, prompts: int, answers: int) -> JudgedQuestions:
    """A check that asks as many questions, each as often, as the real ones do; of no content."""
    kind = cast(type[JudgedQuestions], type("Simulated", (JudgedQuestions,), {"name": name}))
    return kind(
        QuestionData(
            id=name,
            version=1,
            licence="none",
            source="simulated",
            sampling=Sampling(samples_per_prompt=answers),
            prompts=tuple(
                Question(id=f"{name}-{number}", subject="none", question=f"question {number}")
                for number in range(prompts)
            ),
        )
    )
