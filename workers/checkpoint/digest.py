"""The content digest that identifies a checkpoint, whatever it is called and wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

#: Files that determine what is served; notes, licences and training logs do not.
SERVED = ("*.safetensors", "*.json", "*.jinja", "*.model", "vocab.txt", "merges.txt")


def served_files(directory: Path) -> list[Path]:
    """The files of a checkpoint that its digest covers, sorted by name."""
    found = {file for pattern in SERVED for file in directory.glob(pattern)}
    return sorted(file for file in found if file.is_file())


def content_digest(files: Iterable[Path]) -> str:
    """``sha256:…`` over the names and contents of files.

    Laws: independent of the order of the files and of their directory; different when any name or
    any byte differs.
    """
    lines = sorted(f"{file.name}\0{_file_digest(file)}\n" for file in files)
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def combined_digest(*digests: str) -> str:
    """``sha256:…`` of several digests in order, for an adapter over its base."""
    return "sha256:" + hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
