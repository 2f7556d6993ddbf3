"""Rounds: in which order a check is asked, so that a run may stop between them."""

from __future__ import annotations

from collections.abc import Sequence

from checks.check import Check
from checks.contexts import Context
from checks.sample import Elicitation
from checks.statistics import shuffle_key

#: Prompts of each check that are asked before the next look.
PROMPTS_PER_ROUND = 16


def rounds_of(
    check: Check,
    seed: str,
    contexts: Sequence[Context] = (),
    prompts_per_round: int = PROMPTS_PER_ROUND,
) -> list[list[Elicitation]]:
    """What a check asks, round by round; whole prompts, in the random order of the seed.

    All answers to a prompt are drawn in one round, because the prompt is the unit. A check whose
    interval holds for one look only is asked in a single round.
    """
    prompts: dict[str, list[Elicitation]] = {}
    for elicitation in check.elicitations(contexts):
        prompts.setdefault(elicitation.prompt_id, []).append(elicitation)
    order = sorted(prompts, key=lambda prompt: shuffle_key(prompt, seed))
    size = len(order) if check.one_look else prompts_per_round
    return [
        [elicitation for prompt in order[begin : begin + size] for elicitation in prompts[prompt]]
        for begin in range(0, len(order), max(1, size))
    ]
