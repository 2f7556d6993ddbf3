"""Confidence intervals over prompts.

The prompt is the unit: answers to one prompt are correlated, so they are averaged first and the
interval is taken over prompts (Miller 2024, arXiv 2411.00640). Shares get a betting interval,
which holds for any number of prompts, where the normal approximation fails on rare events
(Bowyer et al. 2025, arXiv 2503.01747).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from checks.measurement import Estimate

#: Resolution of the betting interval, as a share of the range of the values.
GRID_POINTS = 2001
#: Largest share of the wealth put on one prompt (Waudby-Smith and Ramdas, section 4.2).
BET_LIMIT = 0.75


def shuffle_key(prompt: str) -> str:
    """Sorts prompts into a fixed shuffle, which the betting interval needs and a rerun repeats."""
    return hashlib.sha256(prompt.encode()).hexdigest()


def mean_interval(values: Sequence[float], confidence: float) -> Estimate:
    """Student interval of a mean of values without bounds, such as log-likelihood differences.

    Args:
        values: one number per prompt; at least two.
        confidence: two-sided coverage in (0, 1).

    Raises:
        ValueError: fewer than two values, a value is not finite, or a confidence out of range.
    """
    _require_confidence(confidence)
    data = _finite(values, at_least=2)
    mean = float(data.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(data) - 1) * stats.sem(data))
    return Estimate(value=mean, lower=mean - half, upper=mean + half)


def bounded_mean_interval(
    values: Sequence[float], confidence: float, low: float = 0.0, high: float = 1.0
) -> Estimate:
    """Betting interval of a mean of values known to lie in [low, high].

    The hedged capital process of Waudby-Smith and Ramdas 2023 (arXiv 2010.09686, section 4): for
    every candidate mean two gamblers bet that the true mean is above or below it, with half of the
    wealth each; a candidate against which either half has ever reached 1/alpha is excluded. It
    holds for any number of values, needs them in random order, and assumes nothing but their
    bounds. The bets are sized for this number of values, so the interval is for one look at all of
    them and not for stopping early.

    Args:
        values: one number per prompt, in random order; at least one.
        confidence: two-sided coverage in (0, 1).
        low: lower bound of the values.
        high: upper bound of the values.

    Raises:
        ValueError: no value, one that is not finite or outside the bounds, or a confidence out of
            range.
    """
    _require_confidence(confidence)
    data = _finite(values, at_least=1)
    if data.min() < low or data.max() > high:
        raise ValueError(f"values must lie in [{low}, {high}]")
    scaled = (data - low) / (high - low)
    alpha = 1 - confidence
    candidates = np.linspace(0.0, 1.0, GRID_POINTS)
    ever = _ever_excluded(scaled, candidates, _predictable_bets(scaled, alpha), alpha)
    # Values that rule out every mean break the assumption of random order, and so prove nothing.
    kept = candidates if ever.all() else candidates[~ever]
    mean = float(scaled.mean())
    step = 1.0 / (GRID_POINTS - 1)
    lower = min(max(0.0, float(kept.min()) - step), mean)
    upper = max(min(1.0, float(kept.max()) + step), mean)
    width = high - low
    return Estimate(value=low + mean * width, lower=low + lower * width, upper=low + upper * width)


def _predictable_bets(scaled: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Size of each bet, from the values before it only (equations 24 to 26 of the source)."""
    count = np.arange(1, len(scaled) + 1)
    running_mean = (0.5 + np.cumsum(scaled)) / (count + 1)
    running_variance = (0.25 + np.cumsum((scaled - running_mean) ** 2)) / (count + 1)
    variance_before = np.concatenate(([0.25], running_variance[:-1]))
    bets = np.sqrt(2 * np.log(2 / alpha) / (variance_before * len(scaled)))
    return np.asarray(bets, dtype=np.float64)


def _ever_excluded(
    scaled: NDArray[np.float64],
    candidates: NDArray[np.float64],
    bets: NDArray[np.float64],
    alpha: float,
) -> NDArray[np.bool_]:
    """For each candidate mean, whether either gambler's half of the wealth ever reached 1/alpha."""
    with np.errstate(divide="ignore"):
        up_limit = BET_LIMIT / candidates
        down_limit = BET_LIMIT / (1 - candidates)
    log_up = np.zeros_like(candidates)
    log_down = np.zeros_like(candidates)
    excluded = np.zeros(len(candidates), dtype=bool)
    for value, bet in zip(scaled, bets, strict=True):
        gain = value - candidates
        log_up += np.log1p(np.minimum(bet, up_limit) * gain)
        log_down += np.log1p(-np.minimum(bet, down_limit) * gain)
        excluded |= np.maximum(log_up, log_down) + np.log(0.5) >= np.log(1 / alpha)
    return excluded


def _require_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")


def _finite(values: Sequence[float], at_least: int) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) < at_least:
        raise ValueError(f"needs at least {at_least} values, got {data.size}")
    if not np.isfinite(data).all():
        raise ValueError("values must be finite")
    return data
