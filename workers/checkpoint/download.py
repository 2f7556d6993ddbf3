"""Downloading the files of a source: resumed where it broke off, compared with their digests."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from gate.content_store import GIB, NoRoomError
from workers.checkpoint.remote import (
    Remote,
    RemoteFile,
    SourceChangedError,
    SourceUnreachableError,
    digest_of,
)

#: Files that are not complete, beside the directory of those that are.
PARTIAL = "partial"
#: Waits after attempts without a byte, in seconds: up to the first, twice that, … the longest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
NOTE_SECONDS = 1.0
MIB = 2**20

#: Told how much is there, how much there will be (both in MiB), and what is done, in words.
Note = Callable[[int, int, str], None]


class Meter:
    """Tells how far a fetch is, about once a second."""

    def __init__(self, total: int, note: Note) -> None:
        """Begin at nothing of ``total`` bytes."""
        self._total = total
        self._note = note
        self._done = 0
        self._told = 0.0

    def add(self, size: int) -> None:
        """Note that so many bytes are there; negative if they were taken back."""
        self._done += size
        if time.monotonic() - self._told >= NOTE_SECONDS or self._done == self._total:
            self.tell(f"fetching {self._done / GIB:.1f} of {self._total / GIB:.1f} GiB")

    def tell(self, what: str) -> None:
        """Say something now."""
        self._told = time.monotonic()
        self._note(self._done // MIB, self._total // MIB, what)


def retrying(attempts: int, tell: Callable[[str], None]) -> Retrying:
    """Attempts at what may not answer now: with growing waits, then the last error."""

    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        tell(f"waiting for a source: {error}"[:300])

    return Retrying(
        retry=retry_if_exception_type(SourceUnreachableError),
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        before_sleep=before_sleep,
        reraise=True,
    )


def download(
    remote: Remote, files: Sequence[RemoteFile], complete: Path, attempts: int, meter: Meter
) -> None:
    """Fetch files into a directory; what an earlier call left there or beside it is kept.

    Files that are not whole are in the directory ``partial`` beside it.

    Raises:
        SourceUnreachableError: nothing came in so many attempts in a row; what came before is kept.
        SourceChangedError: a file is not what it was when it was listed.
        SourceError: it may no longer be read.
        NoRoomError: the disk ran full.
    """
    unfinished = complete.with_name(PARTIAL)
    try:
        complete.mkdir(exist_ok=True)
        unfinished.mkdir(exist_ok=True)
        for file in files:
            target = complete / file.name
            if target.exists():
                meter.add(file.size)
                continue
            _fetch(remote, file, unfinished / file.name, attempts, meter)
            (unfinished / file.name).rename(target)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise
        raise NoRoomError(
            f"the disk of {complete.parent} ran full while fetching {remote.uri}; free some room"
        ) from error
    unfinished.rmdir()


def _fetch(remote: Remote, file: RemoteFile, partial: Path, attempts: int, meter: Meter) -> None:
    """Fetch one file whole; once more from its beginning if what was kept of it proves wrong."""
    kept = partial.stat().st_size if partial.exists() else 0
    meter.add(kept)
    partial.touch()
    while (have := partial.stat().st_size) < file.size:
        retrying(attempts, meter.tell)(_pull, remote, file, partial, have, meter)
    if partial.stat().st_size == file.size and _matches(file, partial):
        return
    meter.add(-partial.stat().st_size)
    partial.unlink()
    if not kept:
        raise SourceChangedError(
            f"{remote.uri}: {file.name} is not what its store announced; submit it again"
        )
    _fetch(remote, file, partial, attempts, meter)


def _pull(remote: Remote, file: RemoteFile, partial: Path, start: int, meter: Meter) -> None:
    """Append what comes. A connection that breaks after some bytes is no failed attempt."""
    came = 0
    with partial.open("ab") as target:
        try:
            for piece in remote.pieces(file, start):
                if start + came + len(piece) > file.size:
                    raise SourceChangedError(
                        f"{remote.uri}: {file.name} became larger while it was fetched"
                    )
                target.write(piece)
                came += len(piece)
                meter.add(len(piece))
        except SourceUnreachableError:
            if not came:
                raise
        target.flush()
        os.fsync(target.fileno())
    if not came:
        raise SourceUnreachableError(f"{remote.uri}: {file.name} ended early")


def _matches(file: RemoteFile, partial: Path) -> bool:
    if file.digest is None:
        return True
    algorithm, expected = file.digest
    return digest_of(partial, algorithm) == expected.lower()
