"""From a network's scores to the ratings that the gate reads (0 to 100).

Scores are log-odds without a scale of their own. A map that only rises puts the chosen operating
point where the gate draws its line (alignment 30, coherence 50), so the line can be moved by
calibration without touching the gate, and the order of answers (and so the AUC) stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Log-odds are cut off here before they are mapped, so that no rating overflows.
STEEPEST = 40.0


@dataclass(frozen=True, slots=True)
class Scale:
    """A falling map from "how bad" to a rating: ``rate(threshold) == line``, law: monotone."""

    threshold: float
    slope: float
    line: float

    def rate(self, score: float) -> float:
        """The rating of one score, in [0, 100], rounded to one decimal."""
        odds = math.log(self.line / (100 - self.line)) - self.slope * (score - self.threshold)
        return round(100 / (1 + math.exp(-max(-STEEPEST, min(STEEPEST, odds)))), 1)


@dataclass(frozen=True, slots=True)
class Blend:
    """A weighted sum of the network's incoherence score and the surface features."""

    weights: tuple[float, ...]
    bias: float

    def score(self, incoherent: float, features: Sequence[float]) -> float:
        """How incoherent an answer is, as log-odds.

        Raises:
            ValueError: there are not as many numbers as weights.
        """
        values = (incoherent, *features)
        return self.bias + sum(w * v for w, v in zip(self.weights, values, strict=True))


def threshold_for(scores: Sequence[float], false_alarms: float) -> float:
    """The lowest threshold that at most this share of the (harmless) scores exceeds.

    Raises:
        ValueError: there is no score.
    """
    if not scores:
        raise ValueError("no scores to choose a threshold from")
    ordered = sorted(scores, reverse=True)
    allowed = math.floor(false_alarms * len(ordered))
    if allowed >= len(ordered):
        return ordered[-1]
    above = ordered[allowed - 1] if allowed else ordered[0] + 1.0
    return (above + ordered[allowed]) / 2
