"""Tells which questions of a battery ask the same thing, so that each counts once as evidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz, process, utils

from checks.sample import Elicitation, Message

_PLACEHOLDER = "\0question\0"
#: Questions compared at once with all others; bounds the memory.
_ROWS = 256


@dataclass(frozen=True)
class Wording:
    """One way in which a prompt asks its question: the question, and what stands around it."""

    check: str
    prompt: str
    question: str
    around: tuple[Message, ...]

    @classmethod
    def of(cls, elicitation: Elicitation) -> Wording:
        """Take the question out of its messages."""
        question = elicitation.question
        return cls(
            check=elicitation.check,
            prompt=elicitation.prompt_id,
            question=question,
            around=tuple(
                m
                if m.role == "system"
                else Message(role=m.role, content=m.content.replace(question, _PLACEHOLDER))
                for m in elicitation.messages
            ),
        )


@dataclass(frozen=True)
class Alike:
    """Two prompts that ask nearly the same; ``similarity`` in [0, 100], 100 for the same words."""

    first: Wording
    second: Wording
    similarity: float


def alike(wordings: Sequence[Wording], least: float) -> list[Alike]:
    """Pairs of different prompts whose questions are alike, the most alike wording of each pair.

    Case, punctuation and white space do not count. The same question in another context (another
    system prompt, another template) is meant to be the same and is not reported; a system prompt
    that only one prompt has belongs to its question and is compared with it.

    Args:
        wordings: everything that is asked.
        least: similarity from which on two questions are alike, in [0, 100].
    """
    owners: dict[tuple[Message, ...], set[tuple[str, str]]] = defaultdict(set)
    for wording in wordings:
        owners[wording.around].add((wording.check, wording.prompt))
    groups: dict[tuple[Message, ...] | None, dict[Wording, str]] = defaultdict(dict)
    alone = set()
    for wording in wordings:
        own = (wording.check, wording.prompt, wording.question)
        if len(owners[wording.around]) > 1:
            groups[wording.around][wording] = wording.question
        elif own not in alone:
            alone.add(own)
            groups[None][wording] = _with_system(wording)
    found: dict[frozenset[tuple[str, str]], Alike] = {}
    for group in groups.values():
        for pair in _pairs(group, least):
            prompts = frozenset((w.check, w.prompt) for w in (pair.first, pair.second))
            if prompts not in found or found[prompts].similarity < pair.similarity:
                found[prompts] = pair
    return list(found.values())


def _with_system(wording: Wording) -> str:
    system = [message.content for message in wording.around if message.role == "system"]
    return "\n".join([*system, wording.question])


def _pairs(group: dict[Wording, str], least: float) -> Iterator[Alike]:
    members, texts = list(group), list(group.values())
    for begin in range(0, len(texts), _ROWS):
        scores = process.cdist(
            texts[begin : begin + _ROWS],
            texts,
            scorer=fuzz.ratio,
            processor=utils.default_process,
            score_cutoff=least,
            dtype=np.float32,
        )
        for row, column in np.argwhere(scores >= max(least, 1.0)):
            one, two = members[begin + row], members[column]
            if begin + row < column and (one.check, one.prompt) != (two.check, two.prompt):
                yield Alike(one, two, float(scores[row, column]))
