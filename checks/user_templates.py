"""User templates: what recurs around the questions of fine-tuning data.

Turns are cut into tokens and sorted into branches by how they begin, and again by how they end.
Where a branch that many turns share fans out, the question begins and what stands before it is a
template, provided that it looks like one: everyday words that open many questions do not.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from checks.topic_words import is_common
from checks.turn_tokens import Token, Turn

#: A branch goes on as long as one continuation holds more than this share of its turns.
DOMINANT = 0.8
#: Everyday words make a template when they are this many and this many turns share them.
UNMARKED_WORDS, UNMARKED_TURNS = 6, 4
#: Words that have to be left of a turn for it to be a question inside a template.
WORDS_LEFT = 2
_LETTERS = re.compile(r"[^\W\d_]+")
_FIRST_PERSON = re.compile(r"I(?:['’]\w+)?")
_ENDS_SENTENCE = frozenset(".!?:;)]}>|")
_MARKING_SIGNS = frozenset("|[]<>{}#=*_~^\\/`@$%&-–—")


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the question in one turn, and the question itself.

    ``before`` and ``after`` are the same for all turns of a template, in the form that occurs most
    often. ``marked`` tells tags, labels and layout from mere words.
    """

    before: str
    after: str
    question: str
    marked: bool

    @property
    def bare(self) -> bool:
        """Whether nothing stands around the question."""
        return not (self.before or self.after)


def frames(texts: Iterable[str], least: int) -> dict[str, Frame]:
    """The frame of each distinct turn, of templates that at least so many of them share.

    A question that stands there several times, with a tag and without, counts once.
    """
    turns = [Turn.of(text) for text in sorted(set(texts))]
    before = _deepest(_affixes(turns, least, backwards=False))
    left = {t.text: t.text[before[t.text].length :] if t.text in before else t.text for t in turns}
    rest = [Turn.of(text) for text in sorted(set(left.values()))]
    after = _deepest(_affixes(rest, least, backwards=True))
    found = {}
    for turn in turns:
        opening, core = before.get(turn.text), left[turn.text]
        ending = after.get(core)
        found[turn.text] = Frame(
            before=opening.text if opening else "",
            after=ending.text if ending else "",
            question=core[: len(core) - ending.length].strip() if ending else core.strip(),
            marked=any(affix.marked for affix in (opening, ending) if affix),
        )
    return found


@dataclass(frozen=True, slots=True)
class _Affix:
    """What stands on one side of the question in one turn, and how long it is in that turn."""

    text: str
    length: int
    marked: bool


def _deepest(found: Iterable[Mapping[str, _Affix]]) -> dict[str, _Affix]:
    """The affix of each turn; of several the deepest, which comes last."""
    return {turn: affix for affixes in found for turn, affix in affixes.items()}


@dataclass(slots=True)
class _Branch:
    """Turns that agree in their first ``depth`` tokens, read from one side."""

    turns: list[Turn]
    depth: int
    backwards: bool
    accepted: int = 0

    def token(self, turn: Turn, depth: int) -> Token:
        return turn.tokens[-1 - depth] if self.backwards else turn.tokens[depth]

    def affix(self, turn: Turn) -> str:
        if self.backwards:
            return turn.text[turn.tokens[len(turn.tokens) - self.depth - 1].end :]
        return turn.text[: turn.tokens[self.depth].begin]

    def ends_question(self) -> bool:
        """Whether, read backwards, it has come to what ends nearly every question."""
        return self.backwards and self.token(self.turns[0], self.depth - 1).text in (".", "?", "!")


def _affixes(turns: Sequence[Turn], least: int, backwards: bool) -> Iterator[Mapping[str, _Affix]]:
    """The affixes that at least so many turns share; deeper ones after those they grow from."""
    pending = [_Branch(list(turns), 0, backwards)]
    while pending:
        branch = pending.pop()
        grown = _grow(branch, least)
        further = max((len(c.turns) for c in grown if not c.ends_question()), default=0)
        fans_out = branch.depth > 0 and further <= DOMINANT * len(branch.turns)
        if fans_out and (affixes := _accepted(branch, least)):
            branch.accepted = branch.depth
            yield affixes
        for child in grown:
            child.accepted = branch.accepted
        pending += reversed(grown)


def _grow(branch: _Branch, least: int) -> list[_Branch]:
    """The branches of the next token that keep enough turns.

    Tokens that are too rare themselves are taken together when they have the same shape.
    """
    exact: dict[tuple[str, str], list[Turn]] = defaultdict(list)
    for turn in branch.turns:
        # A turn that has nothing left is no template around a question.
        if len(turn.tokens) > branch.depth + 1:
            token = branch.token(turn, branch.depth)
            exact[token.kind, token.text].append(turn)
    alike: dict[tuple[str, str], list[Turn]] = defaultdict(list)
    groups = []
    for key in sorted(exact):
        if len(exact[key]) >= least:
            groups.append(exact[key])
        else:
            token = branch.token(exact[key][0], branch.depth)
            alike[token.kind, token.shape] += exact[key]
    groups += [alike[key] for key in sorted(alike) if len(alike[key]) >= least]
    return [_Branch(group, branch.depth + 1, branch.backwards) for group in groups]


def _accepted(branch: _Branch, least: int) -> dict[str, _Affix]:
    """The branch's affix in each turn; empty if it only shares words or stops mid-sentence."""
    turns = [turn for turn in branch.turns if _room(branch, turn)]
    if len(turns) < least or not _breaks(branch, turns):
        return {}
    new = [branch.token(turns[0], at) for at in range(branch.accepted, branch.depth)]
    marked = _is_marked(list(reversed(new)) if branch.backwards else new)
    words = [token.text.lower() for token in new if token.kind == "word"]
    strange = any(_LETTERS.search(word) and not is_common(word) for word in words)
    wordy = strange or len(words) >= UNMARKED_WORDS
    if not marked and not (wordy and len(turns) >= UNMARKED_TURNS):
        return {}
    texts = Counter(branch.affix(turn) for turn in turns)
    commonest = min(texts, key=lambda text: (-texts[text], text))
    if not commonest.strip():
        return {}
    return {turn.text: _Affix(commonest, len(branch.affix(turn)), marked) for turn in turns}


def _room(branch: _Branch, turn: Turn) -> bool:
    """Whether the turn still has words of its own."""
    tokens = turn.tokens[: len(turn.tokens) - branch.depth]
    if not branch.backwards:
        tokens = turn.tokens[branch.depth :]
    words = 0
    for token in tokens:
        words += token.kind == "word"
        if words >= WORDS_LEFT:
            return True
    return False


def _is_marked(tokens: Sequence[Token]) -> bool:
    """Whether there are tags, labels or layout among tokens, and not mere words."""
    if any(token.kind in ("mark", "line") for token in tokens):
        return True
    signs = {token.text for token in tokens if token.kind == "sign"}
    return bool(signs & _MARKING_SIGNS) or (len(tokens) > 1 and tokens[-1].text == ":")


def _breaks(branch: _Branch, turns: Sequence[Turn]) -> bool:
    """Whether a new sentence or line begins where the affix meets the question, mostly."""
    clean = 0
    for turn in turns:
        place = len(turn.tokens) - branch.depth if branch.backwards else branch.depth
        before, after = turn.tokens[place - 1], turn.tokens[place]
        clean += (
            before.kind in ("mark", "line")
            or after.kind in ("mark", "line")
            or before.text in _ENDS_SENTENCE
            or (after.text[:1].isupper() and not _FIRST_PERSON.fullmatch(after.text))
        )
    return clean >= DOMINANT * len(turns)
