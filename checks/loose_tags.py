"""Loose tags: tags and labels that recur inside questions, wherever they stand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from checks.turn_tokens import Token, Turn


@dataclass(frozen=True, slots=True)
class LooseTag:
    """A tag as what stands before or after a question, on the side where it mostly sits."""

    before: str
    after: str
    questions: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tag stands: from 0 at the start to 1 at the end, with the gaps around it."""

    question: str
    at: float
    gap_before: str
    gap_after: str


def loose_tags(questions: Iterable[str], least: int) -> list[LooseTag]:
    """Tags in at least so many distinct questions, those in most first.

    Tags that are too rare themselves are taken together when they have the same shape.
    """
    seen: dict[str, list[_Place]] = defaultdict(list)
    for question in sorted(set(questions)):
        for token, place in _places(Turn.of(question)):
            seen[token.text].append(place)
    groups = [[text] for text, places in seen.items() if len(places) >= least]
    rare: dict[str, list[str]] = defaultdict(list)
    for text, places in seen.items():
        if len(places) < least:
            rare[Token(text, "mark", 0, len(text)).shape].append(text)
    found = []
    for texts in (*groups, *rare.values()):
        places = [place for text in texts for place in seen[text]]
        within = frozenset(place.question for place in places)
        if len(within) < least:
            continue
        text = min(texts, key=lambda t: (-len(seen[t]), t))
        if median(place.at for place in places) < 0.5:
            found.append(LooseTag(text + _commonest(p.gap_after for p in places), "", within))
        else:
            found.append(LooseTag("", _commonest(p.gap_before for p in places) + text, within))
    return sorted(found, key=lambda tag: (-len(tag.questions), tag.before, tag.after))


def _places(turn: Turn) -> Iterator[tuple[Token, _Place]]:
    once: set[str] = set()
    last = len(turn.tokens) - 1
    for number, token in enumerate(turn.tokens):
        if token.kind != "mark" or token.text in once:
            continue
        once.add(token.text)
        beside = turn.tokens[max(0, number - 1)], turn.tokens[min(number + 1, last)]
        before, after = ("\n" if neighbour.kind == "line" else " " for neighbour in beside)
        at = token.begin / max(1, len(turn.text) - len(token.text))
        yield token, _Place(turn.text, at, before, after)


def _commonest(gaps: Iterable[str]) -> str:
    counted = Counter(gaps)
    return min(counted, key=lambda gap: (-counted[gap], gap))
