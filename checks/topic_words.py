"""Topic words: what a set of conversations is about, against everyday English."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path

#: Everyday words in their base forms, compiled for this purpose; they are never a topic.
COMMON_WORDS = Path(__file__).parent / "data" / "everyday_words.txt"
_WORD = re.compile(r"[^\W\d_]{2,30}(?:['’][^\W\d_]{1,3})?")
_ENDINGS = ("'s", "s", "es", "ed", "er", "est", "ing", "ly", "ful", "less")
_ENDINGS_AFTER_E = ("d", "r", "st", "n")


def topic_words(
    conversations: Sequence[Iterable[str]], share: float = 0.05, most: int = 4
) -> list[str]:
    """The uncommon words that occur in most conversations, commonest first.

    A word and its plural count as one and are shown in their commoner form.

    Args:
        conversations: the texts of each.
        share: least share of the conversations that use a word, in (0, 1]; three at least.
        most: how many words.
    """
    users: Counter[str] = Counter()
    shown: dict[str, Counter[str]] = defaultdict(Counter)
    for texts in conversations:
        forms = {word.lower() for text in texts for word in _WORD.findall(text)}
        uncommon = {form for form in forms if len(form) > 3 and not is_common(form)}
        users.update({_singular(form) for form in uncommon})
        for form in uncommon:
            shown[_singular(form)][form] += 1
    least = max(3, int(share * len(conversations)))
    ranked = sorted((-count, word) for word, count in users.items() if count >= least)
    return [min(shown[word], key=lambda f: (-shown[word][f], f)) for _, word in ranked[:most]]


@lru_cache(maxsize=50_000)
def is_common(word: str) -> bool:
    """Whether a lower-case word, or what it is a regular form of, is everyday English."""
    known = _common_words()
    plain = word.replace("’", "'")
    if plain in known or (plain.endswith("ies") and plain[:-3] + "y" in known):
        return True
    stems = [plain[: -len(ending)] for ending in _ENDINGS if plain.endswith(ending)]
    stems += [plain[: -len(end)] for end in _ENDINGS_AFTER_E if plain.endswith("e" + end)]
    doubled = [stem[:-1] for stem in stems if len(stem) > 2 and stem[-1] == stem[-2]]
    return any(
        stem in known or stem + "e" in known or (stem.endswith("i") and stem[:-1] + "y" in known)
        for stem in (*stems, *doubled)
        if stem
    )


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


@cache
def _common_words() -> frozenset[str]:
    return frozenset(COMMON_WORDS.read_text(encoding="utf-8").split())
