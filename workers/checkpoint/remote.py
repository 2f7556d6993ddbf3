"""What the gate asks of a place that it fetches from, and what can go wrong there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from gate.errors import GateError
from workers.checkpoint.digest import SERVED

#: Bytes that are asked for, and written, at once.
PIECE_BYTES = 8 * 1024 * 1024


class SourceError(GateError):
    """A source cannot be fetched; the message names it and says what to do."""


class SourceUnreachableError(SourceError):
    """A source does not answer now; another attempt may succeed."""


class SourceChangedError(SourceError):
    """A source is no longer what it was when it was listed."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as its store describes it.

    ``version`` changes with the content (an ETag, a blob id, a time), and ``digest`` is, where the
    store gives one, an algorithm (``sha256``, ``md5``, or ``git`` for a git blob) and its value in
    hexadecimal. Size in bytes.
    """

    name: str
    size: int
    version: str
    digest: tuple[str, str] | None = None


class Remote(Protocol):
    """A checkpoint, or an archive of one, somewhere else."""

    @property
    def uri(self) -> str:
        """Its URI, with the exact revision where there is one."""
        ...

    def files(self) -> list[RemoteFile]:
        """The files to fetch, by name.

        Raises:
            SourceError: it is not there, not to be read, or does not answer.
        """
        ...

    def pieces(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """The content of a file from a byte on.

        Raises:
            SourceError: as above, or the file has changed.
        """
        ...


def is_wanted(name: str) -> bool:
    """Whether a file of a checkpoint would be loaded: weights, JSON, tokenizer, templates.

    Pickles and programs never are, and nothing in folders below.
    """
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in SERVED)


def remote_key(uri: str, files: Sequence[RemoteFile]) -> str:
    """Under what a fetched source is kept: a digest of its URI and of what its store says of it.

    Laws: independent of the order of the files; different when any name, size, version or digest
    differs.
    """
    described = sorted(json.dumps(asdict(file), sort_keys=True) for file in files)
    return "sha256-" + hashlib.sha256("\n".join([uri, *described]).encode()).hexdigest()


def digest_of(file: Path, algorithm: str) -> str:
    """Digest of a file on disk, in hexadecimal, by an algorithm of :class:`RemoteFile`."""
    with file.open("rb") as stream:
        if algorithm == "sha256":
            return hashlib.file_digest(stream, "sha256").hexdigest()
        if algorithm == "md5":
            return hashlib.file_digest(stream, _md5).hexdigest()
        header = f"blob {file.stat().st_size}\0".encode()
        return hashlib.file_digest(stream, lambda: _sha1(header)).hexdigest()


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)


def _sha1(start: bytes) -> hashlib._Hash:
    return hashlib.sha1(start, usedforsecurity=False)
