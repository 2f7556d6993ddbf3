"""A lock on a file, shared or exclusive, that the kernel lets go when its owner dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

POLL_SECONDS = 0.2


class FileLock:
    """One holder's hold on a lock file. Make it with :func:`file_lock`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: IO[bytes] | None = None

    def acquire(self, exclusive: bool, waiting: Callable[[], None]) -> None:
        """Take the lock, or change a hold from shared to exclusive or back.

        A change is not atomic: another holder may come in between, so look again afterwards.
        ``waiting`` is called about five times a second; what it raises ends the wait.
        """
        while not self.try_acquire(exclusive):
            waiting()
            time.sleep(POLL_SECONDS)

    def try_acquire(self, exclusive: bool) -> bool:
        """Take the lock if that is possible now."""
        if self._handle is None:
            self._handle = self.path.open("ab")
        # Two holders that both wait to make a shared lock exclusive would wait for ever.
        fcntl.flock(self._handle, fcntl.LOCK_UN)
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(self._handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if self._is_current(self._handle):
            return True
        # Whoever held it before removed the file: this hold excludes nobody.
        self.release()
        return False

    def release(self) -> None:
        """Let go; safe to call twice."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def _is_current(self, handle: IO[bytes]) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(handle.fileno()), there)


@contextmanager
def file_lock(path: Path) -> Iterator[FileLock]:
    """A lock that is not held yet, and is let go at the end."""
    lock = FileLock(path)
    try:
        yield lock
    finally:
        lock.release()
