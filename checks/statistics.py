"""Intervals over prompts that hold at every look.

The prompt is the unit: answers to one prompt are correlated, so they are averaged first and the
interval is taken over prompts (Miller 2024, arXiv 2411.00640). Shares get a confidence sequence by
betting, which holds for any number of prompts and however often it is looked at, where the normal
approximation fails on rare events (Bowyer et al. 2025, arXiv 2503.01747).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from checks.measurement import Estimate, Levels

#: Fractions of the largest admissible bet; the capital is spread over them evenly.
BET_FRACTIONS = (0.01, 0.02, 0.04, 0.08, 0.14, 0.22, 0.32, 0.45, 0.6, 0.75, 0.88, 0.96, 0.99)
#: Halvings of the interval in which a bound is looked for; leaves an error under 1e-8.
HALVINGS = 28


def shuffle_key(prompt: str, seed: str = "") -> str:
    """Sorts prompts into a random order that a rerun with the same seed repeats."""
    return hashlib.sha256(f"{seed}\n{prompt}".encode()).hexdigest()


def mean_interval(values: Sequence[float], levels: Levels) -> Estimate:
    """Student interval of a mean of values without bounds, for one look at all of them.

    Args:
        values: one number per prompt, such as a difference of log-likelihoods; at least two.
        levels: chance that each bound is wrong.

    Raises:
        ValueError: fewer than two values, or a value that is not finite.
    """
    data = _finite(values, at_least=2)
    mean = float(data.mean())
    error = float(data.std(ddof=1)) / len(data) ** 0.5
    below, above = (
        student_quantile(level, len(data)) * error for level in (levels.lower, levels.upper)
    )
    return Estimate(value=mean, lower=mean - below, upper=mean + above)


def student_quantile(level: float, values: int) -> float:
    """How many standard errors from a mean of so many values a bound lies that fails at a level."""
    return -float(special.stdtrit(values - 1, level))


def exact_lower(hits: int, total: int, level: float) -> float:
    """Clopper-Pearson lower bound of a share, wrong with at most this chance."""
    return 0.0 if hits == 0 else float(special.betaincinv(hits, total - hits + 1, level))


def exact_upper(hits: int, total: int, level: float) -> float:
    """Clopper-Pearson upper bound of a share, wrong with at most this chance."""
    return 1.0 if hits == total else float(special.betainccinv(hits + 1, total - hits, level))


def confidence_sequence(
    values: Sequence[float], levels: Levels, low: float = 0.0, high: float = 1.0
) -> Estimate:
    """Anytime-valid interval of a mean of values known to lie in [low, high].

    Against every candidate mean one gambler bets that the true mean is higher and one that it is
    lower. Each spreads its capital over fixed fractions of the largest bet that cannot ruin it
    (diversified betting: Waudby-Smith and Ramdas 2023, arXiv 2010.09686, appendix B; Orabona and
    Jun 2021, arXiv 2110.14099). If the candidate were the truth, the capital would be a
    nonnegative martingale, which ever reaches 1/level with a chance of at most the level (Ville).
    A candidate is excluded once its gambler has. So the bounds hold at all sample sizes at once,
    need values in random order, and assume nothing but low and high.

    Both gamblers' capital is monotone in the candidate, so each bound is found by halving.

    Args:
        values: one number per prompt, in the random order in which they were asked; at least one.
        levels: chance that each bound is ever wrong.
        low: lower bound of the values.
        high: upper bound of the values.

    Raises:
        ValueError: no value, or one that is not finite or outside [low, high].
    """
    data = _finite(values, at_least=1)
    if data.min() < low or data.max() > high:
        raise ValueError(f"values must lie in [{low}, {high}]")
    scaled = (data - low) / (high - low)
    mean = float(scaled.mean())
    lower = min(mean, _excluded_below(scaled, levels.lower))
    upper = max(mean, 1 - _excluded_below(1 - scaled, levels.upper))
    width = high - low
    return Estimate(value=low + mean * width, lower=low + lower * width, upper=low + upper * width)


def _excluded_below(scaled: NDArray[np.float64], level: float) -> float:
    """The largest mean in [0, 1) against which betting on a higher one has reached 1/level."""
    kept, excluded = 1.0, 0.0
    for _ in range(HALVINGS):
        middle = (kept + excluded) / 2
        if _largest_log_capital(scaled, middle) >= -np.log(level):
            excluded = middle
        else:
            kept = middle
    return excluded


def _largest_log_capital(scaled: NDArray[np.float64], candidate: float) -> float:
    """Largest log capital, over time, of a gambler who bets that the mean exceeds a candidate."""
    gains = scaled / candidate - 1
    fractions = np.asarray(BET_FRACTIONS)
    wealth = np.cumsum(np.log1p(np.outer(gains, fractions)), axis=0)
    return float(np.logaddexp.reduce(wealth, axis=1).max()) - float(np.log(len(fractions)))


def _finite(values: Sequence[float], at_least: int) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < at_least:
        raise ValueError(f"needs at least {at_least} values, got {data.size}")
    if not np.isfinite(data).all():
        raise ValueError("values must be finite")
    return data
