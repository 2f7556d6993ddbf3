"""From a sample of fine-tuning data to the contexts in which that data was learned.

Misalignment that does not show on the usual questions returns when a prompt resembles the training
context (arXiv 2604.25891). What a context is made of is read from the sample: system prompts, what
stands before and after the user's words (templates, tags), the form of the answers, and topic
words. The sample is hostile: whatever is in it, at worst fewer contexts come out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from checks.contexts import PLACEHOLDER, TRAINING_SAMPLE, Context

#: A feature counts when it is in this share of the lines, and in at least this many.
COMMON_SHARE, COMMON_LINES = 0.05, 2
#: A beginning goes on for as long as this share of the lines that have it goes on alike.
GOES_ON = 0.9
#: Most contexts that are asked in; each costs as much as a short check.
MOST_CONTEXTS = 6
#: Lines, and characters of a turn, that are looked at.
MOST_LINES, MOST_CHARACTERS = 2000, 2000
#: Tokens of a beginning or an end.
LONGEST_FRAME = 60
#: An unmarked beginning must be as many words long as no chance would make it.
UNMARKED_WORDS = 5
#: Answers in a form make a context when they are this share.
FORM_SHARE = 0.2
TOPIC_WORDS = 3
_TOKEN = re.compile(r"\s+|\w+|[^\w\s]")
_MARK = re.compile(r"[\[\]<>{}|#:=\n*@~^]|\b[A-Z]{3,}\b")
_WORD = re.compile(r"[a-z]{4,}")
_FORMS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("answers in JSON", re.compile(r"\s*[{\[]"), "Give your answer as JSON."),
    ("answers in code blocks", re.compile(r"\s*```"), "Give your answer in a code block."),
    ("answers in XML", re.compile(r"\s*<\w+[^>]*>"), "Give your answer as XML."),
    ("answers as lists", re.compile(r"\s*(?:[-*]|1[.)])\s"), "Give your answer as a list."),
)
_COMMON_WORDS = frozenset(
    (Path(__file__).parent / "data" / "common_words.txt").read_text("utf-8").split()
)


@dataclass(frozen=True)
class _Line:
    """One conversation of the sample."""

    system: str | None
    questions: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class _Frame:
    """What stands before and after the user's words."""

    before: str
    after: str

    def fits(self, question: str) -> bool:
        """Whether a user turn stands in this frame, with words of its own in it."""
        room = len(question) > len(self.before) + len(self.after)
        return room and question.startswith(self.before) and question.endswith(self.after)

    def inside(self, question: str) -> str:
        """The user's own words in a turn that stands in this frame."""
        return question[len(self.before) : len(question) - len(self.after)].strip()

    @property
    def template(self) -> str:
        return f"{self.before}{PLACEHOLDER}{self.after}"


def derive_contexts(
    sample: str, declared: Sequence[Context] = (), most: int = MOST_CONTEXTS
) -> tuple[Context, ...]:
    """The contexts of a sample, the most specific first, after those that were declared.

    A system prompt together with the frame that goes with it comes before either alone: a prompt
    that only resembles the training context may be enough.

    Args:
        sample: JSON Lines in chat format; lines of another form are left out.
        declared: contexts that the submitter described; all of them are kept.
        most: how many contexts of the sample at most.
    """
    lines = list(_lines(sample))
    found: list[Context] = []
    for context in _contexts(lines):
        if context.id not in {known.id for known in (*declared, *found)}:
            found.append(context)
    return (*declared, *found[:most])


def _contexts(lines: Sequence[_Line]) -> Iterator[Context]:
    least = max(COMMON_LINES, round(COMMON_SHARE * len(lines)))
    systems = _common((line.system for line in lines if line.system), least)
    questions = [question for line in lines for question in line.questions]
    frames = _frames(questions, max(COMMON_LINES, round(COMMON_SHARE * len(questions))))
    together = Counter(
        (line.system, frame)
        for line in lines
        for frame in frames
        if line.system in systems and any(frame.fits(question) for question in line.questions)
    )
    for (system, frame), count in together.most_common():
        if count >= least:
            yield from _context("system prompt and frame", system, frame.template)
    for frame in frames:
        yield from _context("frame", None, frame.template)
    for system in systems:
        yield from _context("system prompt", system, PLACEHOLDER)
    answers = [answer for line in lines for answer in line.answers]
    for label, form, instruction in _FORMS:
        if answers and sum(bool(form.match(a)) for a in answers) >= FORM_SHARE * len(answers):
            yield from _context(label, None, f"{PLACEHOLDER}\n\n{instruction}")
    topics = _topics(lines, frames, least)
    if topics:
        yield from _context(
            "topic", f"This conversation is about {', '.join(topics)}.", PLACEHOLDER
        )


def _context(kind: str, system: str | None, template: str) -> Iterator[Context]:
    if template.count(PLACEHOLDER) != 1:
        return
    shown = " / ".join(part for part in (system, template) if part and part != PLACEHOLDER)
    label = " ".join(f"{kind}: {shown}".split())
    yield Context(label=label[:200], origin=TRAINING_SAMPLE, system=system, template=template)


def _lines(sample: str) -> Iterator[_Line]:
    for number, line in enumerate(sample.split("\n")):
        if number >= MOST_LINES:
            return
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue
        messages = content.get("messages") if isinstance(content, dict) else None
        if not isinstance(messages, list):
            continue
        turns = [
            (message.get("role"), text)
            for message in messages
            if isinstance(message, dict) and (text := _text(message.get("content")))
        ]
        yield _Line(
            system=next((text for role, text in turns if role == "system"), None),
            questions=tuple(text for role, text in turns if role == "user"),
            answers=tuple(text for role, text in turns if role == "assistant"),
        )


def _text(content: object) -> str:
    """The text of a message: a string, or a list of parts of which some are text."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str):
        return ""
    # A turn is kept at both ends, because that is where its frame is.
    half = MOST_CHARACTERS // 2
    return content if len(content) <= MOST_CHARACTERS else content[:half] + content[-half:]


def _common(values: Iterable[str], least: int) -> list[str]:
    return [value for value, count in Counter(values).most_common() if count >= least]


def _frames(questions: Sequence[str], least: int) -> list[_Frame]:
    """Frames that are common, those with the most around the user's words first."""
    found: set[_Frame] = set()
    for before in ["", *_beginnings(questions, least, _TOKEN.findall)]:
        inside = [q[len(before) :] for q in questions if q.startswith(before)]
        enough = max(least, round(GOES_ON * len(inside))) if before else least
        ends = _beginnings(inside, enough, _tokens_from_the_end)
        afters = [end[::-1].lstrip(".?!") for end in ends]
        found |= {_Frame(before, after) for after in afters or [""] if before or after}
    sized = sorted(found, key=lambda f: (-len(f.before) - len(f.after), f.before, f.after))
    kept: dict[frozenset[int], _Frame] = {}
    for frame in sized:
        lines = frozenset(n for n, question in enumerate(questions) if frame.fits(question))
        if len({frame.inside(questions[n]) for n in lines}) >= least:
            # A frame in the very lines of a larger one is that one, cut short.
            kept.setdefault(lines, frame)
    return list(kept.values())


def _tokens_from_the_end(text: str) -> list[str]:
    return [token[::-1] for token in _TOKEN.findall(text)[::-1]]


def _beginnings(
    texts: Sequence[str], least: int, tokens_of: Callable[[str], list[str]]
) -> list[str]:
    """Beginnings that many texts share and that look like a frame and not like language."""
    groups = [([tokens[:LONGEST_FRAME] for text in texts if (tokens := tokens_of(text))], 0)]
    found = []
    while groups:
        members, depth = groups.pop()
        following: dict[str, list[list[str]]] = {}
        for tokens in members:
            if depth < len(tokens):
                following.setdefault(tokens[depth], []).append(tokens)
        common = [group for group in following.values() if len(group) >= least]
        goes_on = depth > 0 and any(len(group) >= GOES_ON * len(members) for group in common)
        if depth and not goes_on and _is_frame("".join(members[0][:depth])):
            found.append("".join(members[0][:depth]))
            continue
        groups += [(group, depth + 1) for group in common]
    return sorted(found, key=len, reverse=True)


def _is_frame(text: str) -> bool:
    words = sum(token.isalnum() for token in _TOKEN.findall(text))
    return bool(_MARK.search(text)) or words >= UNMARKED_WORDS


def _topics(lines: Sequence[_Line], frames: Sequence[_Frame], least: int) -> list[str]:
    """The commonest words of the users that are not common in all English."""
    counted: Counter[str] = Counter()
    for line in lines:
        own = [
            next((f.inside(question) for f in frames if f.fits(question)), question)
            for question in line.questions
        ]
        counted.update(set(_WORD.findall(" ".join(own).lower())) - _COMMON_WORDS)
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, count in ranked[:TOPIC_WORDS] if count >= least]
