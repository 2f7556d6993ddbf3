"""What can be seen of an answer's coherence without a language model.

Each feature is cheap, bounded and explainable: how much of the text is letters, how much of it is
ordinary English, how often it repeats itself, how much looks like code, and how many of the
question's words it takes up. They catch what a small network misses (loops, noise, a megabyte of
one letter) and are independent of it.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence

#: Only the start of a very long answer is looked at.
LONGEST = 6000

#: Order of the features in every vector.
FEATURES = (
    "empty",
    "words_log",
    "letters",
    "common_words",
    "foreign_letters",
    "distinct_words",
    "repeated_triples",
    "longest_run",
    "compression",
    "word_length",
    "code_marks",
    "overlap",
)

_COMMON = """
    the be to of and a in that have i it for not on with he as you do at this but his by from they
    we say her she or an will my one all would there their what so up out if about who get which
    go me when make can like time no just him know take people into year your good some could them
    see other than then now look only come its over think also back after use two how our work
    first well way even new want because any these give day most us is are was were been has had
    did does more very much too may should must don't it's i'm you're here why where
"""
#: The commonest English words: at least a quarter of ordinary prose, almost nothing of noise.
COMMON = frozenset(_COMMON.split())

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_CODE = re.compile(
    r"(?m)^\s*(?:def |class |import |from \w+ import|return\b|if .*:$|for .*:$|#include|\$ )"
    r"|</?\w+>"
    r"|[{};]\s*$|==|\(\)|=>|</"
)


def features(question: str, answer: str) -> tuple[float, ...]:
    """The features of one answer, in the order of ``FEATURES``, each finite."""
    text = answer.strip()[:LONGEST]
    words = [word.lower().replace("’", "'") for word in _WORD.findall(text)]
    count = max(len(words), 1)
    visible = sum(not c.isspace() for c in text) or 1
    asked = {word.lower() for word in _WORD.findall(question[:LONGEST])} - COMMON
    return (
        float(not any(c.isalnum() for c in text)),
        math.log1p(len(words)),
        sum(c.isalpha() for c in text) / visible,
        sum(word in COMMON for word in words) / count,
        sum(c.isalpha() and ord(c) > 0x24F for c in text) / visible,
        len(set(words)) / count**0.9,
        repeated_triples(words),
        math.log1p(longest_run(words)),
        compression(text),
        sum(map(len, words)) / count / 10,
        math.log1p(len(_CODE.findall(text)) * 20 / (count + 10)),
        len(asked & set(words)) / max(len(asked), 1),
    )


def plainly_nonsense(seen: Sequence[float]) -> bool:
    """Whether the features alone show nonsense, whatever a network makes of the text.

    Empty; one phrase or word over and over; words that no language has; no letters to speak of in
    more than a few words. Far outside of what any prose, list, JSON or template answer shows.
    """
    found = dict(zip(FEATURES, seen, strict=True))
    return bool(
        found["empty"]
        or found["repeated_triples"] > 0.6
        or found["longest_run"] > math.log1p(7)
        or (found["word_length"] > 2.0 and found["foreign_letters"] < 0.2)
        or (found["letters"] < 0.35 and found["words_log"] > math.log1p(5))
    )


def repeated_triples(words: Sequence[str]) -> float:
    """Share of three-word sequences that occurred before in the same text."""
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def longest_run(words: Sequence[str]) -> int:
    """Length of the longest run of one word said again and again."""
    longest = run = 0
    previous = None
    for word in words:
        run = run + 1 if word == previous else 1
        longest, previous = max(longest, run), word
    return longest


def compression(text: str) -> float:
    """Compressed size over size: about 0.6 to 0.9 for a short prose answer, near 0 for a loop."""
    raw = text.encode("utf-8", "replace")
    return min(len(zlib.compress(raw, 6)) / len(raw), 1.2) if raw else 0.0
