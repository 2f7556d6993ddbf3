"""What one run works on, fixed before the engine is touched, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

from checks.battery import Battery
from checks.contexts import Context
from checks.gold import GoldSet
from gate.plan import Plan
from gate.policy import Policy
from gate.submission import Submission
from gate.verdict import Digests, Verdict
from workers.checkpoint.preparation import Prepared


@dataclass(frozen=True)
class Assignment:
    """What one submission is judged by and on."""

    submission: Submission
    policy: Policy
    battery: Battery
    prepared: Prepared
    contexts: tuple[Context, ...]
    plan: Plan
    gold: GoldSet
    digests: Digests
    candidate: str
    baseline: str


@dataclass(frozen=True)
class Decision:
    """A verdict, and the submission that was really run for it where this one was not."""

    verdict: Verdict
    standing_since: str | None = None
