"""A copy of an SQLite database, taken while other processes go on using it."""

from __future__ import annotations

import os
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.engine import make_url

from gate.errors import GateError
from gate.store.database import BUSY_SECONDS, POSTGRESQL

#: Pages that are copied before other processes may write again.
PAGES_AT_ONCE = 1024


def back_up(database_url: str, target: Path) -> int:
    """Copy the SQLite database to a new file, and check the copy.

    The copy is of one moment, whatever is written meanwhile. The file appears under its name only
    when it is whole and on the disk.

    Returns:
        The size of the copy in bytes.

    Raises:
        GateError: the database is not an SQLite file that exists, the target exists, or the copy
            could not be written or is damaged.
    """
    source = _sqlite_file(make_url(database_url))
    if target.exists():
        raise GateError(f"{target} exists; name a new file for the backup")
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(source, timeout=BUSY_SECONDS)) as live,
            closing(sqlite3.connect(unfinished)) as copy,
        ):
            live.backup(copy, pages=PAGES_AT_ONCE)
            # One file, without a log beside it that could be forgotten.
            copy.execute("PRAGMA journal_mode=DELETE")
            found = copy.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            raise GateError(f"the copy of {source} is damaged: {found}")
        _publish(unfinished, target)
    except (OSError, sqlite3.Error) as error:
        raise GateError(f"the backup {target} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return target.stat().st_size


def _sqlite_file(url: URL) -> Path:
    if url.get_backend_name() == POSTGRESQL or url.drivername == "postgres":
        shown = shlex.quote(
            url.set(drivername=POSTGRESQL)._replace(password=None).render_as_string()
        )
        raise GateError(
            f"PostgreSQL has its own tool: pg_dump --format=custom --file=gate.dump {shown}"
        )
    if url.get_backend_name() != "sqlite" or not url.database:
        raise GateError("only an SQLite file can be copied")
    source = Path(url.database)
    if not source.is_file():
        raise GateError(f"there is no database at {source}; set GATE_HOME or GATE_DATABASE_URL")
    return source


def _publish(unfinished: Path, target: Path) -> None:
    with unfinished.open("rb") as written:
        os.fsync(written.fileno())
    unfinished.rename(target)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
