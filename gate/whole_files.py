"""Writes several files that belong together: all of them appear, or none."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path


class AlreadyThereError(Exception):
    """A file is there and may not be replaced; the message is its path."""


def write_together(directory: Path, files: Mapping[str, str], replace: bool) -> None:
    """Write files (UTF-8) into a directory, which is made if need be.

    They are written into a temporary directory first and then moved, so that a full disk or a kill
    while writing replaces nothing. A new directory appears in one step. In one that exists the
    moves follow each other; if one fails, those before it are taken back.

    Args:
        directory: where to.
        files: content by name.
        replace: whether files that are there already may be replaced.

    Raises:
        AlreadyThereError: a file is there and may not be replaced.
        OSError: something could not be written; nothing was changed.
    """
    there = [name for name in files if (directory / name).exists()]
    if there and not replace:
        raise AlreadyThereError(directory / there[0])
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Inside a directory that exists: it may be a mount, and nothing is moved across file systems.
    staging = directory if directory.is_dir() else directory.parent
    with tempfile.TemporaryDirectory(dir=staging, prefix=".writing-") as name:
        new, old = Path(name) / "new", Path(name) / "old"
        new.mkdir()
        old.mkdir()
        for file, content in files.items():
            (new / file).write_text(content, encoding="utf-8")
        if directory.exists():
            _move(new, directory, old, list(files))
        else:
            new.rename(directory)


def _move(new: Path, directory: Path, old: Path, files: list[str]) -> None:
    moved: list[str] = []
    try:
        for file in files:
            if (directory / file).exists():
                (directory / file).rename(old / file)
            moved.append(file)
            (new / file).rename(directory / file)
    except OSError:
        for file in moved:
            (directory / file).unlink(missing_ok=True)
            if (old / file).exists():
                (old / file).rename(directory / file)
        raise
