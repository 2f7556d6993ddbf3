"""What a pass costs: answers, ratings and tokens until every required condition passes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from pydantic import BaseModel, ConfigDict, Field

from checks.check import Check
from checks.sample import Elicitation, Mode

#: Requests that an endpoint judge gets for one answer: alignment and coherence.
REQUESTS_PER_RATING = 2
#: Tokens of the shipped rubric in one such request, without question and answer.
RUBRIC_TOKENS = 500
CHARACTERS_PER_TOKEN = 4

#: What each check asks, round by round.
Rounds = Mapping[str, Sequence[Sequence[Elicitation]]]


class Cost(BaseModel):
    """What a pass takes, all checks together.

    ``base_answers`` are drawn once per base and battery, and then kept. ``ratings`` counts answers
    of candidate and base that a judge rates. ``tokens_at_most`` bounds what both write;
    ``judge_tokens`` estimates from above what an endpoint judge reads.
    """

    model_config = ConfigDict(frozen=True)

    candidate_answers: int = Field(ge=0)
    base_answers: int = Field(ge=0)
    ratings: int = Field(ge=0)
    judge_requests: int = Field(ge=0)
    tokens_at_most: int = Field(ge=0)
    judge_tokens: int = Field(ge=0)


@dataclass(frozen=True)
class Passing:
    """A condition's check, whether it is required, and the round after which it passes if any."""

    check: Check
    required: bool
    rounds: int | None


def cost_of_pass(passing: Sequence[Passing], rounds: Rounds) -> Cost | None:
    """Cost of a whole pass; None where a required condition does not pass.

    Conditions that are not required are asked too, until all required ones have passed.
    """
    required = [p.rounds for p in passing if p.required]
    if not required or None in required:
        return None
    last = max(number for number in required if number is not None)
    until: dict[str, int] = {}
    for each in passing:
        ends = min(last, each.rounds or last)
        for name in each.check.evidence_from:
            until[name] = max(ends, until.get(name, 0))
    candidate = base = ratings = written = read = 0
    for name, ends in until.items():
        asked = list(chain(*rounds.get(name, ())[:ends]))
        readers = [p.check for p in passing if name in p.check.evidence_from]
        models = 2 if any(check.needs_baseline for check in readers) else 1
        candidate += len(asked)
        base += (models - 1) * len(asked)
        written += models * sum(map(_written, asked))
        if any(check.needs_judge for check in readers):
            rated = [e for e in asked if e.mode is Mode.ANSWER]
            ratings += models * len(rated)
            read += models * REQUESTS_PER_RATING * sum(map(_read, rated))
    return Cost(
        candidate_answers=candidate,
        base_answers=base,
        ratings=ratings,
        judge_requests=REQUESTS_PER_RATING * ratings,
        tokens_at_most=written,
        judge_tokens=read,
    )


def _written(asked: Elicitation) -> int:
    return asked.sampling.max_tokens if asked.mode is Mode.ANSWER else 0


def _read(asked: Elicitation) -> int:
    return RUBRIC_TOKENS + len(asked.question) // CHARACTERS_PER_TOKEN + _written(asked)
