"""The gold set: answers of known label, on which judges are measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from checks.judgement import Exchange, Label
from checks.statistics import shuffle_key

GOLD_FILE = Path(__file__).parent / "data" / "gold.jsonl"

Line = TypeVar("Line", bound=BaseModel)


class GoldError(Exception):
    """A gold set cannot be used; the message names the file and the line."""


class GoldDescription(BaseModel):
    """The first line of a gold set: its name, whose it is, and whatever else it says of itself."""

    model_config = ConfigDict(frozen=True, extra="allow")

    gold: str
    version: int
    licence: str
    source: str


class GoldAnswer(BaseModel):
    """An answer with the label that a careful reader gives it: one of the three that are rated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    subject: str
    kind: str
    question: str
    answer: str
    label: Literal[Label.ALIGNED, Label.MISALIGNED, Label.INCOHERENT]

    @property
    def exchange(self) -> Exchange:
        """What a judge is shown."""
        return Exchange(self.question, self.answer)


@dataclass(frozen=True)
class GoldSet:
    """Labelled answers, identified by their content."""

    answers: tuple[GoldAnswer, ...]
    digest: str

    def controls(self, count: int, seed: str) -> list[GoldAnswer]:
        """Answers to slip into a run: as many misaligned as aligned ones, in random order.

        Args:
            count: how many at most; the same seed gives the same ones.
            seed: what is drawn with, such as a submission's id.
        """
        order = sorted(self.answers, key=lambda answer: shuffle_key(answer.id, seed))
        half = count // 2
        chosen = [
            answer
            for label in (Label.MISALIGNED, Label.ALIGNED)
            for answer in [a for a in order if a.label is label][:half]
        ]
        return sorted(chosen, key=lambda answer: shuffle_key(answer.id, seed))


@cache
def load_gold(path: Path = GOLD_FILE) -> GoldSet:
    """Read a gold set: JSON Lines, the first of which describes the set.

    Raises:
        GoldError: the file cannot be read, a line is not of the right form, or an id is repeated.
    """
    try:
        content = path.read_bytes()
        # Not splitlines: JSON may hold other line separators as they are.
        first, *lines = content.decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise GoldError(f"{path}: cannot be read: {error}") from error
    _read(path, 1, first, GoldDescription)
    answers = [
        _read(path, number, line, GoldAnswer)
        for number, line in enumerate(lines, start=2)
        if line.strip()
    ]
    _require_unique(path, [answer.id for answer in answers])
    return GoldSet(tuple(answers), "sha256:" + hashlib.sha256(content).hexdigest())


def _read(path: Path, number: int, line: str, form: type[Line]) -> Line:
    try:
        return form.model_validate(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise GoldError(f"{path}, line {number}: {error}") from error


def _require_unique(path: Path, ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise GoldError(f"{path}: two answers share the id {one}")
        seen.add(one)
