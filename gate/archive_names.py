"""Names inside an archive: which are taken, and where each lands. Pure functions of text."""

from __future__ import annotations

import unicodedata

from gate.errors import GateError

LONGEST_PART_BYTES = 255
DEEPEST = 8


class ArchiveError(GateError):
    """An archive was refused: it is broken, too large, or holds what no checkpoint needs."""


def safe_parts(name: str) -> tuple[str, ...]:
    """The parts of a member's path below the top of the archive; empty for the top itself.

    Laws: no part is empty, ``.`` or ``..``, or holds a slash, a backslash or a control character;
    joined, they are a relative path.

    Raises:
        ArchiveError: the name is absolute, leads out, or is written in an odd way.
    """
    if name.startswith("/"):
        raise ArchiveError(f"{name!r} in the archive is an absolute path")
    parts = name.removesuffix("/").split("/")
    while parts and parts[0] == ".":
        parts = parts[1:]
    if parts == [""]:
        raise ArchiveError(f"{name!r} in the archive is no name")
    for part in parts:
        if part in {"", ".", ".."}:
            raise ArchiveError(f"{name!r} in the archive has an empty part, '.' or '..'")
        if "\\" in part or ":" in part or any(unicodedata.category(c)[0] == "C" for c in part):
            raise ArchiveError(f"{name!r} in the archive has a character that no file name needs")
        if len(part.encode()) > LONGEST_PART_BYTES:
            raise ArchiveError(f"{name[:60]!r}… in the archive is too long a name")
    if len(parts) > DEEPEST:
        raise ArchiveError(f"{name!r} in the archive is more than {DEEPEST} folders deep")
    return tuple(parts)


class Names:
    """The names seen so far, so that none comes twice and none is both a file and a folder.

    Compared as file systems that ignore case and Unicode forms would.
    """

    def __init__(self, most_files: int) -> None:
        self._most_files = most_files
        self._files: set[tuple[str, ...]] = set()
        self._folders: set[tuple[str, ...]] = set()
        self._members = 0

    def folder(self, parts: tuple[str, ...]) -> None:
        """Note a folder; the same folder may come again.

        Raises:
            ArchiveError: a file has this name, or there are too many members.
        """
        self._count()
        self._note_folders(_comparable(parts))

    def file(self, parts: tuple[str, ...]) -> None:
        """Note a file.

        Raises:
            ArchiveError: the name was there, or there are too many members.
        """
        self._count()
        name = _comparable(parts)
        if not name:
            raise ArchiveError("the archive has a file without a name")
        if name in self._files or name in self._folders:
            raise ArchiveError(f"'{'/'.join(parts)}' is in the archive twice")
        self._note_folders(name[:-1])
        self._files.add(name)

    def _note_folders(self, name: tuple[str, ...]) -> None:
        for depth in range(1, len(name) + 1):
            if name[:depth] in self._files:
                raise ArchiveError(f"'{'/'.join(name[:depth])}' is a file and a folder at once")
            self._folders.add(name[:depth])

    def _count(self) -> None:
        self._members += 1
        if self._members > self._most_files:
            raise ArchiveError(f"the archive has more than {self._most_files} files and folders")


def _comparable(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFKC", part).casefold() for part in parts)
