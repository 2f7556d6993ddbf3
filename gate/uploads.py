"""Uploaded checkpoints: received, compared with their digest, extracted, kept once by content."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gate.archive_names import ArchiveError
from gate.archives import ArchiveTooLargeError, Format, extract
from gate.content_store import FILES, GIB, ContentStore, NoRoomError
from gate.errors import GateError
from gate.settings import Settings
from gate.sources import UploadSource

SECONDS_PER_DAY = 86400


class UploadTooLargeError(GateError):
    """An upload has more bytes than are taken."""


class UploadDigestError(GateError):
    """What arrived is not what the digest names."""


@dataclass(frozen=True)
class Upload:
    """An upload that is here. Size is that of its files, in bytes."""

    source: UploadSource
    size: int
    files: int


class Incoming:
    """An archive that is being received into a file without a name, which ends with its process."""

    def __init__(self, file: IO[bytes], limit: int, free: Callable[[], int]) -> None:
        self._file = file
        self._free = free
        self._limit = limit
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            UploadTooLargeError: more have come than are taken.
            NoRoomError: the disk is full, but for a reserve.
        """
        self.size += len(chunk)
        if self.size > self._limit:
            raise UploadTooLargeError(
                f"the upload is larger than {self._limit / GIB:.2f} GiB (GATE_UPLOAD_GIB)"
            )
        if self._free() < len(chunk):
            raise NoRoomError("the disk of the gate has no room for the upload")
        self._hash.update(chunk)
        self._file.write(chunk)

    def finished(self, digest: str) -> IO[bytes]:
        """The whole archive, at its beginning.

        Raises:
            UploadDigestError: its SHA-256 is another.
        """
        arrived = f"sha256:{self._hash.hexdigest()}"
        if arrived != digest:
            raise UploadDigestError(f"the upload has {arrived}, and {digest} was announced")
        self._file.flush()
        self._file.seek(0)
        return self._file


class UploadStore:
    """The uploads of this installation, which its API processes and workers share."""

    def __init__(self, settings: Settings) -> None:
        """Open the store, which is made on first use."""
        self._limit = int(settings.upload_gib * GIB)
        self._largest = int(settings.largest_checkpoint_gib * GIB)
        self._days = settings.upload_days
        self._store = ContentStore(
            settings.upload_directory,
            int(settings.upload_store_gib * GIB),
            settings.upload_days * SECONDS_PER_DAY,
        )

    @contextmanager
    def receiving(self) -> Iterator[Incoming]:
        """A place for an archive that is about to arrive; nothing of it is left at the end."""
        with tempfile.TemporaryFile(dir=self._store.root) as file:
            yield Incoming(file, self._limit, self._store.free)

    def keep(self, incoming: Incoming, digest: str, kind: Format) -> Upload:
        """Extract what arrived and keep it; the same content is kept once.

        Raises:
            UploadDigestError: it is not what was announced.
            ArchiveError: it is broken, too large, or holds what no checkpoint needs.
            NoRoomError: the store is full.
            OSError: the disk ran full on the way.
        """
        archive = incoming.finished(digest)
        self._store.remove_abandoned_parts()
        source = UploadSource(digest)

        def make(part: Path) -> None:
            room = self._store.free()
            try:
                extract(archive, kind, part / FILES, min(self._largest, room))
            except ArchiveTooLargeError as error:
                if room < self._largest:
                    raise NoRoomError(f"{error}, and there is no room for more") from error
                raise

        # Weights hardly compress, so the archive is about as large as what comes out of it.
        with self._store.holding(_key(source), incoming.size, make):
            found = self.find(source)
        if found is None:
            raise ArchiveError("the upload was removed while it was extracted; send it again")
        return found

    def find(self, source: UploadSource) -> Upload | None:
        """What is kept under a digest, and marked as used; None if nothing is."""
        sizes = self._store.sizes(_key(source))
        return None if sizes is None else Upload(source, sum(sizes.values()), len(sizes))

    @contextmanager
    def held(self, source: UploadSource) -> Iterator[Path]:
        """The directory of an upload, which is not removed until the end.

        Raises:
            GateError: it is not here, or its files are no longer what was uploaded.
        """
        with self._store.held(_key(source)) as directory:
            if directory is None:
                raise GateError(
                    f"{source} is not here: it was removed after {self._days:g} days without use, "
                    "damaged, or uploaded to a gate with another GATE_HOME; upload it again"
                )
            yield directory


def _key(source: UploadSource) -> str:
    return source.digest.replace(":", "-")
