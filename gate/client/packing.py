"""Packing a checkpoint directory into a tar for an upload."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gate.errors import WrongUsageError


@dataclass(frozen=True)
class Archive:
    """A tar on disk with the SHA-256 of its bytes in hexadecimal."""

    path: Path
    sha256: str


@contextmanager
def packed(directory: Path, packed_bytes: Callable[[int], None]) -> Iterator[Archive]:
    """A directory's files as a tar that is removed afterwards; the same content, the same bytes.

    Owners and times are left out. ``packed_bytes`` is told the size of what was packed so far.

    Raises:
        WrongUsageError: there is no file in it, or something that is no plain file, or it cannot
            be read. Links are refused, because the other side could not follow them.
    """
    with tempfile.NamedTemporaryFile(prefix="em-gate-upload-", suffix=".tar") as target:
        try:
            digest = _write(directory, target, packed_bytes)
        except OSError as error:
            raise WrongUsageError(f"{directory} cannot be packed: {error}") from error
        yield Archive(Path(target.name), digest)


def size_of(directory: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _write(directory: Path, target: IO[bytes], packed_bytes: Callable[[int], None]) -> str:
    hashed = _Hashing(target)
    done = 0
    with tarfile.open(None, "w|", hashed, format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(directory.rglob("*")):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise WrongUsageError(f"{path} is a link or no plain file: give the file itself")
            if path.is_dir():
                continue
            entry = tarfile.TarInfo(path.relative_to(directory).as_posix())
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as stream:
                archive.addfile(entry, stream)
            done += entry.size
            packed_bytes(done)
    if not done:
        raise WrongUsageError(f"{directory} has no files to upload")
    target.flush()
    return hashed.digest.hexdigest()


class _Hashing(io.RawIOBase):
    """Writes through and hashes what it writes."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.digest.update(data)
        return self._target.write(data)
