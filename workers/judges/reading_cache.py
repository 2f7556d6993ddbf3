"""What endpoint judges said, kept on disk, so that the same question is not paid for twice.

One SQLite file, shared by all processes of a machine. It only saves money: when it cannot be read
or written, the judge is asked as if it were empty, and a warning says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    DateTime,
    Engine,
    Float,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    select,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError

from checks.judgement import Remark
from workers.judges.rating_tokens import Reading

log = logging.getLogger(__name__)

#: Keys looked up in one statement; SQLite bounds the number of its variables.
_AT_ONCE = 500
#: How long a process waits for another one that writes, in seconds.
_BUSY_SECONDS = 5

_metadata = MetaData()
_readings = Table(
    "readings",
    _metadata,
    Column("key", String(64), primary_key=True),
    Column("rating", Float),
    Column("remark", String(16)),
    Column("read_at", DateTime(timezone=True), nullable=False),
)


class ReadingCache:
    """Readings by a hash of judge and prompt.

    ``UNRATED`` is never kept: it is the absence of a reading, and the judge may do better later.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._engine: Engine | None = None

    def find(self, keys: Sequence[str]) -> dict[str, Reading]:
        """The readings that are there, by key."""
        found: dict[str, Reading] = {}
        try:
            with self._open().connect() as connection:
                for begin in range(0, len(keys), _AT_ONCE):
                    some = keys[begin : begin + _AT_ONCE]
                    rows = connection.execute(select(_readings).where(_readings.c.key.in_(some)))
                    found |= {row.key: _reading(row.rating, row.remark) for row in rows}
        except (OSError, SQLAlchemyError, ValueError) as error:
            log.warning("the judge cache %s cannot be read: %s", self._file, error)
        return found

    def keep(self, key: str, reading: Reading) -> None:
        """Keep a reading; one that is there already stays."""
        if reading is Remark.UNRATED:
            return
        remark = reading.value if isinstance(reading, Remark) else None
        row = {
            "key": key,
            "rating": None if remark else reading,
            "remark": remark,
            "read_at": datetime.now(UTC),
        }
        try:
            with self._open().begin() as connection:
                connection.execute(insert(_readings).on_conflict_do_nothing(), [row])
        except (OSError, SQLAlchemyError) as error:
            log.warning("the judge cache %s cannot be written: %s", self._file, error)

    def _open(self) -> Engine:
        if self._engine is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(URL.create("sqlite", database=str(self._file)))
            event.listen(engine, "connect", _prepare)
            _metadata.create_all(engine)
            self._engine = engine
        return self._engine


def _reading(rating: float | None, remark: str | None) -> Reading:
    if remark is not None:
        return Remark(remark)
    if rating is None or not 0 <= rating <= 100:
        raise ValueError(f"{rating} is no rating")
    return rating


def _prepare(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode=WAL")
    # What a power cut loses is asked for again.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
