"""How well ratings agree with labels: AUC, shares, and how sure either is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from checks.statistics import exact_lower, exact_upper

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
    ordered = np.sort(good)
    below, up_to = (np.searchsorted(ordered, bad, side).sum() for side in ("left", "right"))
    return float((below + up_to) / (2 * len(bad) * len(good)))


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
    return exact_lower(hits, total, 0.025), exact_upper(hits, total, 0.025)
