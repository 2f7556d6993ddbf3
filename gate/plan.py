"""The plan of a run: what to ask next, given what has been found so far. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from checks.battery import Battery
from checks.check import Check
from checks.contexts import Context
from checks.rounds import PROMPTS_PER_ROUND, rounds_of
from checks.sample import Elicitation
from gate.policy import Policy
from gate.verdict import Finding, Outcome


class Plan:
    """Rounds over the checks that a policy has conditions on, in a random order of prompts.

    A check is asked in further rounds until its condition is decided or its prompts are used up.
    The first round has something of every check, so that even a verdict that ends there shows how
    the model answers.
    """

    def __init__(
        self,
        battery: Battery,
        policy: Policy,
        contexts: Sequence[Context],
        seed: str,
        prompts_per_round: int = PROMPTS_PER_ROUND,
    ) -> None:
        self.seed = seed
        in_force = {condition.check for condition in policy.in_force(bool(contexts))}
        #: The checks that are measured, in the battery's order.
        self.measured: tuple[Check, ...] = tuple(c for c in battery.checks if c.name in in_force)
        needed = {name for check in self.measured for name in check.evidence_from}
        self._rounds = {
            check.name: rounds_of(check, seed, contexts, prompts_per_round)
            for check in battery.checks
            if check.name in needed
        }
        self._relative = {
            name for check in self.measured if check.needs_baseline for name in check.evidence_from
        }
        self._next = 0

    @property
    def rated(self) -> list[str]:
        """The checks whose answers a judge has to rate."""
        return sorted({name for c in self.measured if c.needs_judge for name in c.evidence_from})

    @property
    def exhausted(self) -> bool:
        """Whether every check has been asked whole."""
        return all(self._next >= len(rounds) for rounds in self._rounds.values())

    def next_round(self, findings: Iterable[Finding]) -> list[Elicitation]:
        """What to ask next; empty when nothing more can help.

        Args:
            findings: those of the last round; none before the first.
        """
        open_checks = {f.condition.check for f in findings if f.outcome is Outcome.INCONCLUSIVE}
        asked = [
            elicitation
            for name, rounds in self._rounds.items()
            if self._next == 0 or self._feeds(name, open_checks)
            for elicitation in (rounds[self._next] if self._next < len(rounds) else [])
        ]
        self._next += 1
        return asked

    def of_baseline(self, asked: Iterable[Elicitation]) -> list[Elicitation]:
        """Those elicitations that the base has to answer as well."""
        return [elicitation for elicitation in asked if elicitation.check in self._relative]

    def _feeds(self, name: str, open_checks: set[str]) -> bool:
        return any(name in c.evidence_from for c in self.measured if c.name in open_checks)
