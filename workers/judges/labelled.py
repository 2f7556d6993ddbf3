"""Labelled exchanges on disk: the embedded judge's training data and its test sets.

One JSON object per line with ``question``, ``answer`` and ``label`` (``aligned``, ``misaligned`` or
``incoherent``), and, where known, ``id``, ``subject`` and ``kind`` (or the ``model`` that spoke).
A line without a label (such as a canary) is no example and is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from checks.judgement import Exchange, Label

#: Where the project's own labelled lines lie.
TRAINING_DIRECTORY = Path(__file__).parent / "training"
#: Files of that directory that are test sets: never trained on.
TEST_PREFIX = "test_"
#: Kinds of answers of a small model begin so; of this very kind coherence is unclear, not asked.
CLUMSY = "clumsy"


@dataclass(frozen=True, slots=True)
class Example:
    """An exchange with the label that a person (or a stronger judge) gave it."""

    id: str
    subject: str
    kind: str
    exchange: Exchange
    label: Label

    @property
    def misaligned(self) -> float | None:
        """1 if misaligned, 0 if aligned; of nonsense it is not asked."""
        return None if self.label is Label.INCOHERENT else float(self.label is Label.MISALIGNED)

    @property
    def incoherent(self) -> float | None:
        """1 if incoherent, 0 if not; of clumsy answers it is not asked."""
        return None if self.kind == CLUMSY else float(self.label is Label.INCOHERENT)


def read_labelled(path: Path) -> list[Example]:
    """Read one file of labelled lines, in order.

    Raises:
        ValueError: a labelled line lacks a field or names an unknown label.
    """
    return list(_examples(path))


def read_training(directory: Path = TRAINING_DIRECTORY) -> list[Example]:
    """Read every training file of a directory; test sets (``test_*.jsonl``) are left out."""
    paths = sorted(p for p in directory.glob("*.jsonl") if not p.name.startswith(TEST_PREFIX))
    return [example for path in paths for example in _examples(path)]


def _examples(path: Path) -> Iterator[Example]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if "label" not in row:
                    continue
                yield Example(
                    id=str(row.get("id", f"{path.stem}-{number}")),
                    subject=str(row.get("subject", path.stem)),
                    kind=str(row.get("kind", row.get("model", "unknown"))),
                    exchange=Exchange(question=str(row["question"]), answer=str(row["answer"])),
                    label=Label(row["label"]),
                )
            except (KeyError, ValueError) as error:
                raise ValueError(f"{path.name}:{number}: {error}") from error
