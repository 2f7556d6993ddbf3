"""Extracting an archive that may be hostile: regular files only, counted while they are written."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from stat import S_IFMT, S_ISDIR, S_ISREG
from typing import IO

from gate.archive_names import ArchiveError, Names, safe_parts

MOST_MEMBERS = 4096
CHUNK_BYTES = 1024 * 1024
#: Largest table of contents of a zip, and largest extended header of a tar: both are read at once.
LARGEST_TABLE_BYTES = 16 * 1024 * 1024
LARGEST_HEADER_BYTES = 64 * 1024
_EXTENDED = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}
_ENCRYPTED = 0x1
#: The library's own rules as well: what they refuse today or tomorrow is refused here. Python has
#: them since 3.11.4; before that there are only ours, which refuse all that they do.
_LIBRARY_RULES = getattr(tarfile, "data_filter", None)


class Format(StrEnum):
    """Archives that are taken, by what opens them."""

    TAR = "tar"
    TAR_GZ = "tar.gz"
    ZIP = "zip"


@dataclass(frozen=True)
class Extracted:
    """What came out of an archive: number of files, and their bytes in all."""

    files: int
    size: int


class ArchiveTooLargeError(ArchiveError):
    """The files of an archive have more bytes than they may."""


class _Budget:
    """Bytes that may still be written."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0

    def spend(self, size: int) -> None:
        self.spent += size
        if self.spent > self.limit:
            raise ArchiveTooLargeError(
                f"the archive holds more than {self.limit / 2**30:.2f} GiB when it is extracted"
            )


def format_of_name(name: str) -> Format:
    """The format that a file name claims.

    Raises:
        ArchiveError: none of those taken.
    """
    lower = name.lower()
    for suffix, kind in ((".tar.gz", Format.TAR_GZ), (".tgz", Format.TAR_GZ)):
        if lower.endswith(suffix):
            return kind
    for kind in (Format.TAR, Format.ZIP):
        if lower.endswith(f".{kind}"):
            return kind
    raise ArchiveError(f"{name} is not named as a tar, tar.gz or zip")


def extract(archive: IO[bytes], kind: Format, destination: Path, limit: int) -> Extracted:
    """Extract an archive into an empty directory that exists.

    A single folder at the top is stripped. Links, devices, pipes, sparse files and names that lead
    out are refused, whatever they point to; owners, modes and times are not taken over.

    Args:
        archive: seekable, at its beginning.
        kind: what it claims to be.
        destination: an empty directory.
        limit: bytes that the files may have in all.

    Raises:
        ArchiveTooLargeError: the files have more bytes than the limit.
        ArchiveError: says what is wrong; some files may have been written by then.
        OSError: a file could not be written.
    """
    budget, names = _Budget(limit), Names(MOST_MEMBERS)
    try:
        with _one_sentence():
            if kind is Format.ZIP:
                files = _extract_zip(archive, destination, budget, names)
            else:
                files = _extract_tar(archive, kind, destination, budget, names)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ArchiveError(f"the archive is broken or no {kind}: {error}") from error
    if not files:
        raise ArchiveError("the archive holds no files")
    _strip_top(destination)
    return Extracted(files, budget.spent)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """What the libraries raise on hostile headers besides their own errors."""
    try:
        yield
    except (
        RecursionError,
        MemoryError,
        ValueError,
        KeyError,
        IndexError,
        OverflowError,
        AttributeError,  # of tarfile in Python before 3.11.4, on a broken gzip header
    ) as error:
        raise ArchiveError(f"the archive is broken: {type(error).__name__}: {error}") from error
    except (NotImplementedError, RuntimeError) as error:
        raise ArchiveError(f"the archive is of a kind that is not taken: {error}") from error


class _BoundedHeaders(tarfile.TarInfo):
    """Refuses extended headers that claim to be large: the library reads them into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED and self.size > LARGEST_HEADER_BYTES:
            raise ArchiveError("the archive has an extended header that is too large")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise ArchiveError(f"'{self.name}' in the archive is a sparse file")
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return member


def _extract_tar(
    archive: IO[bytes], kind: Format, destination: Path, budget: _Budget, names: Names
) -> int:
    files = 0
    mode = "r|gz" if kind is Format.TAR_GZ else "r|"
    with tarfile.open(fileobj=archive, mode=mode, tarinfo=_BoundedHeaders) as tar:  # type: ignore[call-overload]
        for member in tar:
            parts = safe_parts(member.name)
            if member.isdir():
                names.folder(parts)
                continue
            if not member.isreg() or member.issparse():
                raise ArchiveError(
                    f"'{member.name}' in the archive is a link, device, pipe or sparse file"
                )
            names.file(parts)
            if _LIBRARY_RULES is not None:
                _LIBRARY_RULES(member, str(destination))
            stream = tar.extractfile(member)
            if stream is None:
                raise ArchiveError(f"'{member.name}' in the archive has no content")
            _write(stream, destination.joinpath(*parts), member.size, budget)
            files += 1
    return files


def _extract_zip(archive: IO[bytes], destination: Path, budget: _Budget, names: Names) -> int:
    files = 0
    with zipfile.ZipFile(_BoundedReads(archive)) as package:
        for member in package.infolist():
            parts = safe_parts(member.orig_filename)
            mode = member.external_attr >> 16
            if member.is_dir() and (not S_IFMT(mode) or S_ISDIR(mode)):
                names.folder(parts)
                continue
            if S_IFMT(mode) and not S_ISREG(mode):
                raise ArchiveError(f"'{member.filename}' in the archive is a link or device")
            if member.flag_bits & _ENCRYPTED:
                raise ArchiveError(f"'{member.filename}' in the archive is encrypted")
            if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise ArchiveError(f"'{member.filename}' is neither stored nor deflated")
            names.file(parts)
            with package.open(member) as stream:
                _write(stream, destination.joinpath(*parts), member.file_size, budget)
            files += 1
    return files


class _BoundedReads(io.RawIOBase):
    """A file that refuses reads for which no sound zip has a reason."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        allowed = LARGEST_TABLE_BYTES + 1
        content = self._file.read(min(size, allowed) if size >= 0 else allowed)
        if len(content) > LARGEST_TABLE_BYTES:
            raise ArchiveError("the archive has a table of contents that is too large")
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def _write(stream: IO[bytes], target: Path, size: int, budget: _Budget) -> None:
    """Write a member, counting what comes out and not what the header says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with target.open("xb") as file:
        while chunk := stream.read(CHUNK_BYTES):
            budget.spend(len(chunk))
            written += len(chunk)
            file.write(chunk)
    if written != size:
        raise ArchiveError(f"'{target.name}' in the archive has {written} bytes of {size}")


def _strip_top(destination: Path) -> None:
    """Move the content of a single folder at the top up by one."""
    top = list(destination.iterdir())
    if len(top) != 1 or not top[0].is_dir():
        return
    folder = top[0].rename(destination.with_name(destination.name + ".top"))
    destination.rmdir()
    folder.rename(destination)
