"""Working directories that do not outlive their owner, however it ends."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "run-"
_UNLOCKED_PREFIX = "new-"
_LOCK = "owner.lock"


@contextmanager
def workspace(parent: Path) -> Iterator[Path]:
    """A fresh private directory, removed at the end.

    The owner holds a lock in it, which the kernel lets go when the owner dies; directories of dead
    owners are removed on the way in. It gets its name only once it is locked, so that another
    owner who is clearing up does not take it for abandoned.
    """
    parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(parent)
    unlocked = Path(tempfile.mkdtemp(prefix=_UNLOCKED_PREFIX, dir=parent))
    with (unlocked / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory = unlocked.rename(parent / unlocked.name.replace(_UNLOCKED_PREFIX, _PREFIX, 1))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def remove_abandoned(parent: Path) -> list[Path]:
    """Remove working directories whose owner is dead; return what was removed."""
    removed = []
    for directory in sorted(parent.glob(f"{_PREFIX}*")):
        lock = directory / _LOCK
        if not lock.exists():
            continue
        with lock.open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(directory, ignore_errors=True)
            removed.append(directory)
    return removed
