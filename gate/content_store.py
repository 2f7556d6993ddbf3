"""A bounded store of checkpoints on disk, each under a digest of what it holds.

An entry appears whole or not at all. Whoever uses one holds a shared lock, whoever makes or
removes one an exclusive lock; the kernel drops both when their owner dies, so a crash leaves no
entry in use for ever and no half of one that is taken for whole.

Layout: ``entries/KEY/{files/,manifest.json}``; ``parts/KEY`` while it is made; ``locks/KEY``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gate.errors import GateError
from gate.file_lock import file_lock

FILES = "files"
MANIFEST = "manifest.json"
PLANNED = "planned"
#: Room that is always left on the disk, in bytes.
RESERVE_BYTES = 64 * 1024 * 1024
GIB = 2**30


class NoRoomError(GateError):
    """The store or its disk has no room for another entry."""


@dataclass(frozen=True)
class Occupant:
    """An entry or a part of one as it counts against the bound: bytes, and seconds of the clock."""

    key: str
    size: int
    last_used: float


def may_go(occupants: list[Occupant], idle_since: float) -> list[Occupant]:
    """What may be removed for room, in order: not used since a time, the longest unused first."""
    idle = [occupant for occupant in occupants if occupant.last_used <= idle_since]
    return sorted(idle, key=lambda occupant: (occupant.last_used, occupant.key))


class ContentStore:
    """Entries under one directory, which several processes share."""

    def __init__(self, root: Path, limit: int, keep_seconds: float = 0.0) -> None:
        """Make the directories.

        Args:
            root: where the entries are.
            limit: bytes that all entries together may hold.
            keep_seconds: how long an entry is kept after its last use even if room is needed.
        """
        self.root = root
        self._limit = limit
        self._keep_seconds = keep_seconds
        for directory in (self._entries, self._parts, self._locks):
            directory.mkdir(parents=True, exist_ok=True)

    @property
    def _entries(self) -> Path:
        return self.root / "entries"

    @property
    def _parts(self) -> Path:
        return self.root / "parts"

    @property
    def _locks(self) -> Path:
        return self.root / "locks"

    @contextmanager
    def holding(
        self,
        key: str,
        size: int,
        make: Callable[[Path], None],
        waiting: Callable[[], None] = lambda: None,
        keep_part: bool = False,
    ) -> Iterator[Path]:
        """The directory of an entry's files, made if need be, in use until the end.

        Args:
            key: digest of the content, as a file name.
            size: bytes that making it will write.
            make: fills the directory given, whose ``files`` is the entry's content; what an earlier
                attempt left is still there if ``keep_part``.
            waiting: called while another process makes the same entry.
            keep_part: leave what was made so far when ``make`` fails, for the next attempt.

        Raises:
            NoRoomError: there is no room, also after removing what is not in use.
        """
        entry = self._entries / key
        made = False
        with file_lock(self._locks / key) as lock:
            while True:
                lock.acquire(exclusive=False, waiting=waiting)
                if entry.is_dir() and (made or is_intact(entry)):
                    break
                lock.acquire(exclusive=True, waiting=waiting)
                if entry.is_dir() and not is_intact(entry):
                    shutil.rmtree(entry)
                if not entry.is_dir():
                    self._make(key, size, make, keep_part)
                made = True
            lock.path.touch()
            yield entry / FILES

    @contextmanager
    def held(self, key: str) -> Iterator[Path | None]:
        """The directory of an entry's files, in use until the end; None if there is no such entry.

        An entry whose files are not what they were counts as none.
        """
        entry = self._entries / key
        with file_lock(self._locks / key) as lock:
            lock.acquire(exclusive=False, waiting=lambda: None)
            if entry.is_dir() and is_intact(entry):
                lock.path.touch()
                yield entry / FILES
                return
            if not entry.is_dir() and not (self._parts / key).exists():
                lock.path.unlink(missing_ok=True)
        yield None

    def sizes(self, key: str) -> dict[str, int] | None:
        """Bytes of each file of an entry, which counts as used by that; None if there is none."""
        try:
            manifest = json.loads((self._entries / key / MANIFEST).read_text(encoding="utf-8"))
            (self._locks / key).touch()
        except FileNotFoundError:
            return None
        return {name: file["size"] for name, file in manifest.items()}

    def free(self) -> int:
        """Bytes that the disk has to give, less the reserve; not below 0."""
        return max(0, shutil.disk_usage(self.root).free - RESERVE_BYTES)

    def remove_abandoned_parts(self) -> None:
        """Remove parts that nobody makes any more; for stores whose parts are of no further use."""
        for part in sorted(self._parts.iterdir()):
            self._remove(part.name, parts_only=True)

    def _make(self, key: str, size: int, make: Callable[[Path], None], keep_part: bool) -> None:
        part = self._parts / key
        if part.exists() and not keep_part:
            shutil.rmtree(part)
        self._make_room(key, size)
        try:
            (part / FILES).mkdir(exist_ok=True)
            make(part)
            files = part / FILES
            manifest = {
                str(file.relative_to(files)): {"size": file.stat().st_size, "sha256": sha256(file)}
                for file in sorted(files.rglob("*"))
                if file.is_file()
            }
            (part / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            (part / PLANNED).unlink()
            part.rename(self._entries / key)
        except BaseException:
            if not keep_part:
                shutil.rmtree(part, ignore_errors=True)
            raise

    def _make_room(self, key: str, size: int) -> None:
        """Remove what is not in use until the new entry fits, and claim its room."""
        if size > self._limit:
            raise NoRoomError(
                f"{size / GIB:.2f} GiB is more than the {self._limit / GIB:.2f} GiB that "
                f"{self.root} may hold"
            )
        part = self._parts / key
        with file_lock(self.root / "room.lock") as lock:
            lock.acquire(exclusive=True, waiting=lambda: None)
            while True:
                others = [o for o in self._occupants() if o.key != key]
                missing = max(0, size - _bytes_in(part))
                free = self.free()
                if sum(o.size for o in others) + size <= self._limit and missing <= free:
                    break
                idle_since = time.time() - self._keep_seconds
                if not any(self._remove(o.key) for o in may_go(others, idle_since)):
                    taken = sum(o.size for o in others)
                    raise NoRoomError(
                        f"{missing / GIB:.2f} GiB are needed in {self.root}, whose disk has "
                        f"{free / GIB:.2f} GiB to give; of the {self._limit / GIB:.2f} GiB "
                        f"that it may hold, {taken / GIB:.2f} GiB are in use or to be kept; free "
                        "some room or raise the bound"
                    )
            part.mkdir(exist_ok=True)
            (part / PLANNED).write_text(str(size), encoding="ascii")

    def _occupants(self) -> list[Occupant]:
        found = []
        for directory in (*self._entries.iterdir(), *self._parts.iterdir()):
            whole = directory.parent == self._entries
            size = (
                _bytes_in(directory / FILES)
                if whole
                else max(_bytes_in(directory), _planned(directory))
            )
            lock = self._locks / directory.name
            used = lock.stat().st_mtime if lock.exists() else 0.0
            found.append(Occupant(directory.name, size, used))
        return found

    def _remove(self, key: str, parts_only: bool = False) -> bool:
        """Remove an entry and its part; False if it is in use."""
        with file_lock(self._locks / key) as lock:
            if not lock.try_acquire(exclusive=True):
                return False
            shutil.rmtree(self._parts / key, ignore_errors=True)
            if not parts_only:
                shutil.rmtree(self._entries / key, ignore_errors=True)
            if (self._entries / key).exists() or (self._parts / key).exists():
                return False
            lock.path.unlink()
            return True


def is_intact(entry: Path) -> bool:
    """Whether an entry holds the files of its manifest and no others, byte for byte."""
    files = entry / FILES
    try:
        manifest = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
        there = {str(f.relative_to(files)) for f in files.rglob("*") if not f.is_dir()}
        return there == manifest.keys() and all(
            sha256(files / name) == file["sha256"] for name, file in manifest.items()
        )
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return False


def sha256(file: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _planned(part: Path) -> int:
    """Bytes that a part was given room for; 0 if it claimed none."""
    try:
        return int((part / PLANNED).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


def _bytes_in(directory: Path) -> int:
    total = 0
    for file in directory.rglob("*"):
        try:
            total += file.lstat().st_size if not file.is_dir() else 0
        except FileNotFoundError:
            continue  # another process has just finished or removed it
    return total
