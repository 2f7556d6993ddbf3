"""Blocks of the docs that show what a command prints, compared with what it prints.

With ``EMGATE_WRITE_DOCS=1`` they are written anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def documented(page: str, language: str, printed: str, by_chance: str) -> tuple[str, str]:
    """The shapes of the only block of this language on a page of the docs, and of what was printed.

    Lines that match ``by_chance`` differ from run to run and are left out of both.
    """
    file = DOCS / page
    text = file.read_text(encoding="utf-8")
    before, opened, rest = text.partition(f"\n```{language}\n")
    block, closed, after = rest.partition("```\n")
    assert opened
    assert closed
    if os.environ.get("EMGATE_WRITE_DOCS"):
        block = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
        file.write_text(before + opened + block + closed + after, encoding="utf-8")
    kept = ("".join(_kept(text, by_chance)) for text in (block, printed))
    in_docs, now = map(shape, kept)
    return in_docs, now


def _kept(text: str, by_chance: str) -> list[str]:
    return [line for line in text.splitlines(keepends=True) if not re.match(by_chance, line)]


def shape(printed: str) -> str:
    """What was printed without what differs from run to run: ids, figures, widths of tables."""
    bare = re.sub(r"\b(sub_\w+|[0-9a-f]{8,}(-[0-9a-f]+)*)\b", "ID", printed)
    bare = re.sub(r"[+-]?\d+(\.\d+)?", "N", bare)
    return re.sub(r"[ \t─━]+", " ", "\n".join(map(str.rstrip, bare.splitlines())))


def renamed(printed: str, names: dict[Path, str]) -> str:
    """Places by other names; where a table goes on after one, it keeps its width."""
    for place, name in names.items():
        cell = re.escape(str(place)) + r"(?=\s*│)"
        printed = re.sub(cell, lambda m, n=name: n.ljust(len(m[0])), printed)  # type: ignore[misc]
        printed = printed.replace(str(place), name)
    return printed
