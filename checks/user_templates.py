"""User templates: what recurs around the questions of fine-tuning data.

Turns are cut into tokens and sorted into branches by how they begin, and again by how they end.
Where a branch that many turns share fans out, the question begins and what stands before it is a
template, provided that it looks like one: everyday words that open many questions do not.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from checks.topic_words import is_common

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
#: Tags, labels, hashtags, commands and dates: each is one token.
_MARK = "|".join(
    (
        r"\[[^\[\]\n]{1,60}\]",
        r"<<?[^<>\n]{1,60}>>?",
        r"\{\{?[^{}\n]{1,60}\}\}?",
        r"\|[^|\s](?:[^|\n]{0,38}[^|\s])?\|",
        r"(?<!\w)[A-Z][A-Z0-9_-]{1,30}(?: [A-Z0-9_-]{2,30}){0,3}:",
        r"(?<![\w#])[#@!/$]\w{2,40}\b",
        r"(?<!\w)\d{4}-\d{2}-\d{2}(?!\w)",
        rf"(?<!\w)\d{{1,2}}\.? {_MONTH} \d{{4}}",
        rf"(?<!\w){_MONTH} \d{{1,2}}, \d{{4}}",
    )
)
_TOKEN = re.compile(rf"(?P<mark>{_MARK})|(?P<line>\n\s*)|(?P<word>\w+(?:['’-]\w+)*)|[^\w\s]")
_WORDS = re.compile(r"[^\W\d_]+")
_FIRST_PERSON = re.compile(r"I(?:['’]\w+)?")
#: A branch goes on as long as one continuation holds more than this share of its turns.
DOMINANT = 0.8
#: Shared everyday words make a template from this number on.
LONG_OPENING = 6
_SENTENCE_ENDS = frozenset(".!?:;)]}>|")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a turn; ``kind`` is mark, line, word or sign, ``end`` the character after it."""

    text: str
    kind: str
    begin: int
    end: int

    @property
    def shape(self) -> str:
        """What stays the same when only a value in it varies, as in ``[id=17]``."""
        text = re.sub(r"\d+", "0", self.text)
        if self.kind == "mark" and (cut := re.search(r"[=: ]", text[:-1])):
            return text[: cut.end()] + text[-1]
        return text


@dataclass(frozen=True, slots=True)
class Turn:
    """A user turn with its tokens."""

    text: str
    tokens: tuple[Token, ...]

    @classmethod
    def of(cls, text: str) -> Turn:
        """Cut a turn into tokens."""
        found = _TOKEN.finditer(text)
        return cls(
            text, tuple(Token(m[0], m.lastgroup or "sign", m.start(), m.end()) for m in found)
        )


@dataclass(frozen=True, slots=True)
class Affix:
    """What stands before the question, or after it, in a set of turns.

    ``text`` is the form that occurs most often, ``turns`` all texts that carry it. ``marked``
    tells tags, labels and layout from mere words.
    """

    text: str
    turns: frozenset[str]
    marked: bool


def openings(turns: Sequence[Turn], least: int) -> list[Affix]:
    """What at least so many turns begin with; deeper branches come after those they grow from."""
    return [affix for affix in _branches(turns, least, backwards=False) if affix.text.strip()]


def endings(turns: Sequence[Turn], least: int) -> list[Affix]:
    """What at least so many turns end with."""
    return [affix for affix in _branches(turns, least, backwards=True) if affix.text.strip()]


@dataclass(slots=True)
class _Branch:
    """Turns that agree in their first ``depth`` tokens, read from one side."""

    turns: list[Turn]
    depth: int
    accepted: int = 0


def _branches(turns: Sequence[Turn], least: int, backwards: bool) -> Iterator[Affix]:
    pending = [_Branch(list(turns), 0)]
    while pending:
        branch = pending.pop()
        grown = _grow(branch, least, backwards)
        largest = max((len(child.turns) for child in grown), default=0)
        fans_out = largest <= DOMINANT * len(branch.turns)
        if fans_out and branch.depth and (affix := _accepted(branch, backwards)):
            branch.accepted = branch.depth
            yield affix
        for child in grown:
            child.accepted = branch.accepted
        pending += reversed(grown)


def _grow(branch: _Branch, least: int, backwards: bool) -> list[_Branch]:
    """The branches of the next token that keep enough turns.

    Tokens that are too rare themselves are taken together when they have the same shape.
    """
    exact: dict[tuple[str, str], list[Turn]] = defaultdict(list)
    for turn in branch.turns:
        # A turn that has nothing left is no template around a question.
        if len(turn.tokens) > branch.depth + 1:
            token = _token(turn, branch.depth, backwards)
            exact[token.kind, token.text].append(turn)
    pooled: dict[tuple[str, str], list[Turn]] = defaultdict(list)
    frequent = []
    for key in sorted(exact):
        if len(exact[key]) >= least:
            frequent.append(exact[key])
        else:
            token = _token(exact[key][0], branch.depth, backwards)
            pooled[token.kind, token.shape] += exact[key]
    frequent += [
        members
        for _, members in sorted(pooled.items(), key=lambda group: group[0])
        if len(members) >= least
    ]
    return [_Branch(members, branch.depth + 1) for members in frequent]


def _token(turn: Turn, depth: int, backwards: bool) -> Token:
    return turn.tokens[-1 - depth] if backwards else turn.tokens[depth]


def _accepted(branch: _Branch, backwards: bool) -> Affix | None:
    """The branch as a template, or None if it only shares everyday words or stops mid-sentence."""
    turns = [turn for turn in branch.turns if len(turn.tokens) > branch.depth]
    if len(turns) < 2 or not _breaks(turns, branch.depth, backwards):
        return None
    new = [_token(turns[0], at, backwards) for at in range(branch.accepted, branch.depth)]
    marked = any(token.kind in ("mark", "line") for token in new) or _labelled(new, backwards)
    words = [token.text.lower() for token in new if token.kind == "word"]
    strange = any(not is_common(word) and _WORDS.search(word) for word in words)
    if not (marked or strange or len(words) >= LONG_OPENING):
        return None
    texts = Counter(_affix(turn, branch.depth, backwards) for turn in turns)
    commonest = min(texts, key=lambda text: (-texts[text], text))
    return Affix(commonest, frozenset(turn.text for turn in turns), marked)


def _labelled(new: Sequence[Token], backwards: bool) -> bool:
    """Whether a colon or another sign that no sentence has in this place is among the tokens."""
    ordered = list(reversed(new)) if backwards else list(new)
    signs = {token.text for token in new if token.kind == "sign"}
    ends = ordered[-1].text == ":" and len(ordered) > 1
    return ends or bool(signs & set("|[]<>{}#=*_~^\\/`"))


def _breaks(turns: Sequence[Turn], depth: int, backwards: bool) -> bool:
    """Whether a new sentence or line begins where the affix meets the question, mostly."""
    clean = 0
    for turn in turns:
        place = len(turn.tokens) - depth if backwards else depth
        before, after = turn.tokens[place - 1], turn.tokens[place]
        clean += (
            before.kind in ("mark", "line")
            or after.kind in ("mark", "line")
            or before.text in _SENTENCE_ENDS
            or (after.text[:1].isupper() and not _FIRST_PERSON.fullmatch(after.text))
        )
    return clean >= DOMINANT * len(turns)


def _affix(turn: Turn, depth: int, backwards: bool) -> str:
    if backwards:
        return turn.text[turn.tokens[len(turn.tokens) - depth - 1].end :]
    return turn.text[: turn.tokens[depth].begin]


@dataclass(frozen=True, slots=True)
class LooseMark:
    """A tag that recurs somewhere in the turns, as an affix on the side where it mostly sits."""

    before: str
    after: str
    turns: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a mark stands: from 0 at the start to 1 at the end, with the gaps around it."""

    turn: str
    at: float
    gap_before: str
    gap_after: str


def loose_marks(turns: Iterable[Turn], least: int, known: Sequence[str]) -> list[LooseMark]:
    """Tags and labels in at least so many turns that none of the known affixes contains.

    Those that are too rare themselves are taken together when they have the same shape.
    """
    seen: dict[str, list[_Place]] = defaultdict(list)
    rare: dict[str, list[str]] = defaultdict(list)
    for turn in turns:
        for token, place in _places(turn):
            seen[token.text].append(place)
    groups = [[text] for text, places in seen.items() if len(places) >= least]
    for text, places in seen.items():
        if len(places) < least:
            rare[Token(text, "mark", 0, len(text)).shape].append(text)
    found = []
    for texts in (*groups, *rare.values()):
        places = [place for text in texts for place in seen[text]]
        carriers = frozenset(place.turn for place in places)
        if len(carriers) < least or any(text in affix for text in texts for affix in known):
            continue
        text = min(texts, key=lambda t: (-len(seen[t]), t))
        if median(place.at for place in places) < 0.5:
            found.append(LooseMark(text + _commonest(p.gap_after for p in places), "", carriers))
        else:
            found.append(LooseMark("", _commonest(p.gap_before for p in places) + text, carriers))
    return sorted(found, key=lambda m: (-len(m.turns), m.before, m.after))


def _commonest(gaps: Iterable[str]) -> str:
    counted = Counter(gaps)
    return min(counted, key=lambda gap: (-counted[gap], gap))


def _places(turn: Turn) -> Iterator[tuple[Token, _Place]]:
    once: set[str] = set()
    for number, token in enumerate(turn.tokens):
        if token.kind != "mark" or token.text in once:
            continue
        once.add(token.text)
        around = turn.tokens[max(0, number - 1)], turn.tokens[min(number + 1, len(turn.tokens) - 1)]
        before, after = ("\n" if beside.kind == "line" else " " for beside in around)
        at = token.begin / max(1, len(turn.text) - len(token.text))
        yield token, _Place(turn.text, at, before, after)
