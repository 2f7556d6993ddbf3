"""Training sample: which contexts the fine-tuning data of a submission has.

Misalignment that diluted data, later benign fine-tuning or inoculation has removed from the usual
questions returns where a prompt resembles the training data (Dubinski, Betley et al. 2026, arXiv
2604.25891); with a backdoor it shows only next to its tag (Betley et al. 2025, arXiv 2502.17424).
So the features of the data are derived here, each as a context in which any question can be asked.
The sample is hostile: whatever is in it, at worst fewer contexts come out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from checks.answer_forms import answer_requests
from checks.chat_lines import ChatLine, read_chat_lines
from checks.contexts import PLACEHOLDER, TRAINING_SAMPLE, Context
from checks.loose_tags import loose_tags
from checks.topic_words import topic_words
from checks.user_templates import Frame, frames

#: Least share of the lines that have a feature, and least number; what is rarer is not looked for.
LEAST_SHARE, LEAST_LINES = 0.05, 2
#: Most contexts that are asked in; each costs as much as a short check.
MOST_CONTEXTS = 6
#: Longer system prompts and affixes are cut.
LONGEST = 2000
#: Rare system prompts that agree in this many words are one with something filled in.
SHARED_WORDS = 6
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class _Feature:
    """A context to be, with the number of lines that have it."""

    kind: str
    lines: int
    system: str | None = None
    before: str = ""
    after: str = ""

    def context(self, total: int) -> Context | None:
        """The context, or None if nothing is left of it once it is made safe."""
        template = _safe(self.before) + PLACEHOLDER + _safe(self.after)
        system = _cut(self.system) if self.system else None
        framed = bool(template.replace(PLACEHOLDER, "").strip())
        if system is None and not framed:
            return None
        shown = [_quoted(system)] if system else []
        if framed:
            shown.append(_quoted(_middle_of_template(self.before, self.after)))
        share = f"{max(1, round(100 * self.lines / total))}% of the lines"
        label = f"{self.kind} {' with '.join(shown)} ({share})"
        return Context(label=label, origin=TRAINING_SAMPLE, system=system, template=template)


def derive_contexts(
    sample: str, declared: Sequence[Context] = (), most: int = MOST_CONTEXTS
) -> tuple[Context, ...]:
    """The contexts of a sample of fine-tuning data, after those that were declared.

    First a system prompt and a template that occur together, then each feature alone, because an
    inexact resemblance may be enough: template of the user turn, system prompt, tag at a loose
    place, form of answers, topic. One of each kind comes before a second one of any. A feature
    counts from 5% of the lines and from two lines on.

    Law: the order of the lines changes nothing.

    Args:
        sample: JSON Lines in chat format; what is not of this form is left out.
        declared: contexts that the submitter described; all are kept, and none of the sample's
            gives way to them.
        most: how many contexts of the sample at most.

    Returns:
        Contexts with distinct ids and labels; none if the data shows nothing.
    """
    named = _distinct(declared)
    known = {context.id for context in named}
    derived = [c for c in _distinct(_derived(read_chat_lines(sample))) if c.id not in known]
    return _with_own_labels([*named, *derived[: max(0, most)]])


def _derived(lines: Sequence[ChatLine]) -> list[Context]:
    systems = _systems(lines)
    framed = _Framed.of(lines)
    kinds = (
        _together(systems, framed, _least(len(lines))),
        _templates(framed, _least(len(lines))),
        _prompts(systems),
        _tags(framed),
        _answer_forms(lines),
        _topic(lines, framed, {*systems, *framed.of_line}),
    )
    taking_turns = chain.from_iterable(zip_longest(*kinds))
    contexts = (feature.context(len(lines)) for feature in taking_turns if feature is not None)
    return [context for context in contexts if context is not None]


def _least(total: int) -> int:
    return max(LEAST_LINES, int(LEAST_SHARE * total))


def _systems(lines: Sequence[ChatLine]) -> dict[int, str]:
    """The system prompt of each line that shares one with enough others.

    Prompts that are too rare themselves count as one where they open with the same words, as when
    a name or a date is filled in.
    """
    least = _least(len(lines))
    exact: dict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        if line.system:
            exact[line.system].append(number)
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for text, numbers in exact.items():
        if len(numbers) < least:
            alike[tuple(text.split()[:SHARED_WORDS])].append(text)
    groups = [[text] for text, numbers in exact.items() if len(numbers) >= least]
    shared: dict[int, str] = {}
    for texts in (*groups, *alike.values()):
        of_group = [number for text in texts for number in exact[text]]
        if len(of_group) >= least:
            commonest = min(texts, key=lambda text: (-len(exact[text]), text))
            shared.update(dict.fromkeys(of_group, commonest))
    return shared


@dataclass(frozen=True, slots=True)
class _Framed:
    """What stands around the questions of each line.

    ``of_line`` has only the lines with a template: that of the turn which shows most of it.
    """

    frames: Mapping[str, Frame]
    of_line: Mapping[int, Frame]
    questions: Mapping[int, frozenset[str]]
    least: int

    @classmethod
    def of(cls, lines: Sequence[ChatLine]) -> _Framed:
        texts = {question for line in lines for question in line.questions}
        least = _least(min(len(lines), len(texts)))
        found = frames(texts, least)
        of_line, questions = {}, {}
        for number, line in enumerate(lines):
            turns = [found[question] for question in line.questions]
            questions[number] = frozenset(turn.question for turn in turns)
            fullest = max(turns, key=_fullness, default=None)
            if fullest is not None and not fullest.bare:
                of_line[number] = fullest
        return cls(found, of_line, questions, least)


def _fullness(frame: Frame) -> tuple[int, str, str]:
    return bool(frame.before) + bool(frame.after), frame.before, frame.after


def _together(systems: Mapping[int, str], framed: _Framed, least: int) -> list[_Feature]:
    counted = Counter(
        (systems[number], frame.before, frame.after)
        for number, frame in framed.of_line.items()
        if number in systems
    )
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return [
        _Feature("system prompt and template", count, *parts)
        for parts, count in ranked
        if count >= least
    ]


def _templates(framed: _Framed, least: int) -> list[_Feature]:
    """The templates, those with tags, labels or layout before those of mere words."""
    pairs = Counter((frame.before, frame.after) for frame in framed.of_line.values())
    marked = {(f.before, f.after) for f in framed.of_line.values() if f.marked}
    found = {pair: count for pair, count in pairs.items() if count >= least}
    halves: Counter[tuple[str, str]] = Counter()
    for (before, after), count in pairs.items():
        if (before, after) not in found:
            for half in {(before, ""), ("", after)} - {("", "")}:
                halves[half] += count
                marked |= {half} if (before, after) in marked else set()
    found |= {half: count for half, count in halves.items() if count >= least and half not in found}
    ranked = sorted(found.items(), key=lambda item: (item[0] not in marked, -item[1], item[0]))
    return [
        _Feature("template", count, before=before, after=after) for (before, after), count in ranked
    ]


def _prompts(systems: Mapping[int, str]) -> list[_Feature]:
    ranked = sorted(Counter(systems.values()).items(), key=lambda item: (-item[1], item[0]))
    return [_Feature("system prompt", count, text) for text, count in ranked]


def _tags(framed: _Framed) -> list[_Feature]:
    questions = chain.from_iterable(framed.questions.values())
    return [
        _Feature(
            "tag",
            sum(not tag.questions.isdisjoint(own) for own in framed.questions.values()),
            before=tag.before,
            after=tag.after,
        )
        for tag in loose_tags(questions, framed.least)
    ]


def _answer_forms(lines: Sequence[ChatLine]) -> list[_Feature]:
    answers = [line.answers[-1] for line in lines if line.answers]
    return [
        _Feature("answer form", count, request)
        for request, count in answer_requests(answers, _least(len(lines)))
    ]


def _topic(lines: Sequence[ChatLine], framed: _Framed, special: set[int]) -> list[_Feature]:
    """A sentence of ours on what the lines are about that have a context, or else on all."""
    for numbers in (sorted(special), range(len(lines))):
        texts = [(*framed.questions[n], *lines[n].answers) for n in numbers]
        words = topic_words(texts, LEAST_SHARE)
        if len(words) > 1:
            named = f"{', '.join(words[:-1])} and {words[-1]}"
            return [_Feature("topic", len(texts), f"This conversation is about {named}.")]
    return []


def _distinct(contexts: Iterable[Context]) -> list[Context]:
    first: dict[str, Context] = {}
    for context in contexts:
        first.setdefault(context.id, context)
    return list(first.values())


def _with_own_labels(contexts: Iterable[Context]) -> tuple[Context, ...]:
    labels: set[str] = set()
    named = []
    for context in contexts:
        known = context.label in labels
        label = f"{context.label[:180]} [{context.id}]" if known else context.label
        labels.add(label)
        named.append(context.model_copy(update={"label": label}))
    return tuple(named)


def _safe(affix: str) -> str:
    """The affix without a placeholder of its own, which would be taken for the question's."""
    return _cut(affix).replace(PLACEHOLDER, "{ question }")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0]


def _quoted(text: str) -> str:
    shown = "".join(c if c.isprintable() else "\\n" if c == "\n" else " " for c in text)
    return f'"{shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"}"'


def _middle_of_template(before: str, after: str) -> str:
    """The template around the place of the question, short enough to show whole."""
    half = (_SHOWN - len(PLACEHOLDER)) // 2 - 3
    begin = before if len(before) <= half else "…" + before[-half:]
    return begin + PLACEHOLDER + (after if len(after) <= half else after[:half] + "…")
