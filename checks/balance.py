"""Finds answers scored against each other that differ in length: the likelihood depends on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from checks.sample import Elicitation

#: Prompts from which on mean lengths are compared.
PROMPTS_FOR_MEANS = 10


@dataclass(frozen=True)
class Ratios:
    """The largest ratios of two lengths that are still balanced; all from 1 on."""

    words: float
    characters: float
    means: float


@dataclass(frozen=True)
class Imbalance:
    """What is out of balance; ``prompt`` is empty where it is the mean over all."""

    prompt: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class _Unit:
    """A way to measure length; in one prompt, a difference of ``slack`` never matters."""

    name: str
    length: Callable[[str], int]
    slack: int


_WORDS = _Unit("words", lambda text: len(text.split()), slack=2)
_CHARACTERS = _Unit("characters", len, slack=8)


def imbalances(asked: Sequence[Elicitation], ratios: Ratios) -> Iterator[Imbalance]:
    """Answers to one prompt of which one is longer, and sides that are longer on average."""
    scored = list(_scored_together(asked))
    for prompt, answers in scored:
        for one, two in combinations(answers.items(), 2):
            yield from _of_one_prompt(prompt, one, two, ratios)
    by_sides: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for _, answers in scored:
        by_sides[tuple(sorted(answers))].append(answers)
    for sides, group in sorted(by_sides.items()):
        if len(group) >= PROMPTS_FOR_MEANS:
            for unit in (_WORDS, _CHARACTERS):
                yield from _on_average(sides, group, unit, ratios)


def _of_one_prompt(
    prompt: str, one: tuple[str, str], two: tuple[str, str], ratios: Ratios
) -> Iterator[Imbalance]:
    (side, answer), (other, against) = one, two
    if answer.split() == against.split():
        yield Imbalance(
            prompt,
            f"'{side}' and '{other}' are the same text",
            "write two answers: nothing can be told from one",
        )
    for unit, ratio in ((_WORDS, ratios.words), (_CHARACTERS, ratios.characters)):
        lengths = unit.length(answer), unit.length(against)
        short, long = sorted(lengths)
        if long > ratio * short and long - short > unit.slack:
            yield Imbalance(
                prompt,
                f"'{side}' has {lengths[0]} {unit.name}, '{other}' {lengths[1]}",
                "bring both to about the same length",
            )
            return


def _on_average(
    sides: Sequence[str], group: Sequence[Mapping[str, str]], unit: _Unit, ratios: Ratios
) -> Iterator[Imbalance]:
    means = {side: fmean(unit.length(answers[side]) for answers in group) for side in sides}
    longest, shortest = max(sides, key=means.__getitem__), min(sides, key=means.__getitem__)
    if means[longest] > ratios.means * means[shortest]:
        yield Imbalance(
            "",
            f"over {len(group)} prompts '{longest}' has {means[longest]:.1f} {unit.name} on "
            f"average, '{shortest}' {means[shortest]:.1f}",
            f"shorten '{longest}' or lengthen '{shortest}': the mean log-likelihood per token "
            "depends on the length",
        )


def _scored_together(asked: Sequence[Elicitation]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """For each prompt, the answers scored after the same messages; each such set once.

    What stands before the last dot of a form names the messages, not the side of the answer.
    """
    groups: dict[tuple[str, object], dict[str, str]] = defaultdict(dict)
    for elicitation in asked:
        if elicitation.given_answer is not None:
            side = elicitation.form.rpartition(".")[2]
            groups[elicitation.prompt_id, elicitation.messages][side] = elicitation.given_answer
    seen = set()
    for (prompt, _), answers in groups.items():
        content = (prompt, tuple(sorted(answers.items())))
        if len(answers) > 1 and content not in seen:
            seen.add(content)
            yield prompt, answers
