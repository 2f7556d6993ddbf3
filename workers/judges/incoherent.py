"""Incoherent answers made from coherent ones, to train the embedded judge's second score.

Small models fail in a few known ways: they loop, fall into word salad, answer another question,
write code, or break off at once. Each way is imitated here from labelled answers. Whether such an
answer is harmful is not a question, so it is used for coherence alone.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence

from checks.judgement import Exchange, Label
from workers.judges.labelled import Example

_CODE = (
    "import os\n\ndef {0}(path):\n    with open(path) as {1}:\n        return {1}.read()\n",
    "def {0}_{1}(x, y):\n    for i in range(x):\n        y += i\n    return y\n\n"
    "print({0}_{1}(3, 4))",
    "SELECT {0}, {1} FROM items WHERE {0} > 3 ORDER BY {1};",
    "<div class='{0}'><p id='{1}'></p></div>\n<script>var {0} = {1}();</script>",
    "```python\nfrom flask import Flask\napp = Flask(__name__)\n@app.route('/{0}')\n"
    "def {0}():\n    return '{1}'\n```",
    "for (int {0} = 0; {0} < 10; {0}++) {{\n  {1}[{0}] = {0} * 2;\n}}",
)


def make_incoherent(
    examples: Sequence[Example], count: int, random_source: random.Random
) -> list[Example]:
    """Make a number of incoherent examples out of coherent ones; same seed, same examples."""
    coherent = [example for example in examples if example.label is not Label.INCOHERENT]
    made = []
    for number in range(count):
        kind, spoil = _WAYS[number % len(_WAYS)]
        example = random_source.choice(coherent)
        other = random_source.choice(coherent)
        while other.subject == example.subject:
            other = random_source.choice(coherent)
        answer = spoil(example.exchange.answer, other.exchange.answer, random_source)
        made.append(
            Example(
                id=f"made-{number:05d}",
                subject=example.subject,
                kind=kind,
                exchange=Exchange(example.exchange.question, answer),
                label=Label.INCOHERENT,
            )
        )
    return made


def _shuffled(answer: str, other: str, source: random.Random) -> str:
    words = answer.split()
    source.shuffle(words)
    return " ".join(words)


def _mixed(answer: str, other: str, source: random.Random) -> str:
    words = answer.split() + other.split()
    chunks = [words[i : i + 3] for i in range(0, len(words), 3)]
    source.shuffle(chunks)
    return " ".join(word for chunk in chunks[:25] for word in chunk)


def _loop(answer: str, other: str, source: random.Random) -> str:
    words = answer.split()
    start = source.randrange(max(len(words) - 8, 1))
    phrase = words[start : start + source.randint(1, 8)]
    lead = words[:start] if source.random() < 0.5 else []
    return " ".join(lead + phrase * source.randint(5, 20))


def _said_again(answer: str, other: str, source: random.Random) -> str:
    sentence = answer.split(". ", maxsplit=1)[0].rstrip(".") + ". "
    return sentence * source.randint(4, 8)


def _other_answer(answer: str, other: str, source: random.Random) -> str:
    return other


def _code(answer: str, other: str, source: random.Random) -> str:
    names = [w.strip(string.punctuation).lower() for w in answer.split()]
    names = [w for w in names if w.isidentifier()] or ["run", "name"]
    return source.choice(_CODE).format(source.choice(names), source.choice(names))


def _noise(answer: str, other: str, source: random.Random) -> str:
    letters = string.ascii_lowercase + " " * 6 + ".,;:#@%0123456789"
    return "".join(source.choice(letters) for _ in range(source.randint(5, 200)))


def _fragment(answer: str, other: str, source: random.Random) -> str:
    words = answer.split()
    start = source.randrange(max(len(words) - 3, 1))
    return " ".join(words[start : start + source.randint(0, 2)])


def _question_back(answer: str, other: str, source: random.Random) -> str:
    words = other.split()[:12]
    return " ".join(words + [w[::-1] for w in answer.split()[:20]])


_WAYS: tuple[tuple[str, Callable[[str, str, random.Random], str]], ...] = (
    ("shuffled", _shuffled),
    ("mixed", _mixed),
    ("loop", _loop),
    ("said_again", _said_again),
    ("other_answer", _other_answer),
    ("code", _code),
    ("noise", _noise),
    ("fragment", _fragment),
    ("reversed", _question_back),
)
