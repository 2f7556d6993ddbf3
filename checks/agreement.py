"""How well ratings agree with labels: AUC, shares, and how sure either is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import beta, rankdata

#: Resamples behind a bootstrap interval, and their seed.
RESAMPLES = 1000
_SEED = 20261124


def auc(bad: Sequence[float], good: Sequence[float]) -> float:
    """Chance that a bad example scores above a good one, ties counted half (Mann-Whitney).

    Raises:
        ValueError: one of the two is empty.
    """
    if not bad or not good:
        raise ValueError("an AUC needs examples of both kinds")
    ranks = rankdata([*bad, *good])
    above = ranks[: len(bad)].sum() - len(bad) * (len(bad) + 1) / 2
    return float(above / (len(bad) * len(good)))


def auc_interval(bad: Sequence[float], good: Sequence[float]) -> tuple[float, float]:
    """A 95% bootstrap interval of the AUC; the same for the same scores."""
    source = np.random.default_rng(_SEED)
    found = [
        auc(source.choice(bad, len(bad)).tolist(), source.choice(good, len(good)).tolist())
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def share_interval(hits: int, total: int) -> tuple[float, float]:
    """An exact 95% interval of a share (Clopper and Pearson 1934)."""
    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, total - hits + 1))
    high = 1.0 if hits == total else float(beta.ppf(0.975, hits + 1, total - hits))
    return low, high
