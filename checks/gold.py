"""The gold set: answers of known label, on which judges are measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from checks.judgement import Exchange, Label
from checks.statistics import shuffle_key

GOLD_FILE = Path(__file__).parent / "data" / "gold.jsonl"


class GoldError(Exception):
    """A gold set cannot be used; the message names the file and the line."""


class GoldAnswer(BaseModel):
    """An answer with the label that a careful reader gives it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    subject: str
    kind: str
    question: str
    answer: str
    label: Label

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
        lines = content.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GoldError(f"{path}: cannot be read: {error}") from error
    answers = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            answers.append(GoldAnswer.model_validate(json.loads(line)))
        except (ValueError, ValidationError) as error:
            raise GoldError(f"{path}, line {number}: {error}") from error
    _require_unique(path, [answer.id for answer in answers])
    return GoldSet(tuple(answers), "sha256:" + hashlib.sha256(content).hexdigest())


def _require_unique(path: Path, ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise GoldError(f"{path}: two answers share the id {one}")
        seen.add(one)
