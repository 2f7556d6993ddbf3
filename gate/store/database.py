"""Opening the database, and what SQLite needs to be safe with several processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, MetaData, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session

from gate.errors import GateError
from gate.store import (  # noqa: F401  (they register their tables)
    access_tables,
    attempt_tables,
    hook_tables,
)
from gate.store.fence import install_fence
from gate.store.tables import Table
from gate.tracing import traces

#: How long a writer waits for another one, in seconds.
BUSY_SECONDS = 30
#: How long a connection to PostgreSQL may take, in seconds.
CONNECT_SECONDS = 10
#: Connections of one process that are kept; it may open ten more for a while.
POOLED = 10
POSTGRESQL = "postgresql"


def open_database(url: str) -> Engine:
    """Connect, make the tables of a database that is new, and require this version's of any other.

    Several processes may do so at once.

    Raises:
        GateError: the database cannot be reached, or has the tables of another version.
    """
    from gate.store.schema import make_or_require

    engine = connect(url)
    try:
        make_or_require(engine)
    except OperationalError as error:
        shown = engine.url.render_as_string(hide_password=True)
        raise GateError(f"the database {shown} cannot be used: {error.orig}") from error
    return engine


def connect(url: str) -> Engine:
    """An engine for the database, whatever tables it has.

    Its errors name statements without their values, which are a model's words and worse.

    Raises:
        GateError: the URL is wrong, or of a database other than SQLite and PostgreSQL.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, pool_size=POOLED, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
    else:
        engine = create_engine(
            parsed,
            pool_size=POOLED,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_SECONDS},
        )
    install_fence(engine)
    traces().watch_database(engine)
    return engine


class WritersTurns:
    """Lets the threads of a process that write to SQLite do so one after another.

    Inside SQLite writers that meet sleep and try again, longer each time, also when nobody writes
    any more. Other databases put writers in line themselves.
    """

    def __init__(self, engine: Engine) -> None:
        self._lock = threading.Lock() if engine.dialect.name == "sqlite" else None

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for this thread's turn; after too long go on and let SQLite refuse."""
        held = self._lock is not None and self._lock.acquire(timeout=BUSY_SECONDS)
        try:
            yield
        finally:
            if self._lock is not None and held:
                self._lock.release()


def metadata() -> MetaData:
    """All tables of the record."""
    return Table.metadata


def insert_new(engine: Engine, table: type[Table], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows in one transaction; those that break a unique constraint are left out."""
    if rows:
        with Session(engine) as session, session.begin():
            keep_new(session, table, rows)


def keep_new(session: Session, table: type[Table], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows in a transaction; those that break a unique constraint are left out."""
    postgres = session.get_bind().dialect.name == POSTGRESQL
    insert = postgresql.insert if postgres else sqlite.insert
    session.execute(insert(table).on_conflict_do_nothing(), list(rows))


def put(session: Session, table: type[Table], row: dict[str, Any]) -> None:
    """Insert a row in a transaction, or give the one with the same primary key these values."""
    postgres = session.get_bind().dialect.name == POSTGRESQL
    insert = postgresql.insert if postgres else sqlite.insert
    key = [column.name for column in table.__table__.primary_key]
    values = {name: value for name, value in row.items() if name not in key}
    session.execute(
        insert(table).values(row).on_conflict_do_update(index_elements=key, set_=values)
    )


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise GateError("GATE_DATABASE_URL is not a URL such as postgresql://host/name") from error
    # What hosting companies hand out; the driver is ours to choose.
    if parsed.drivername in {"postgres", POSTGRESQL}:
        parsed = parsed.set(drivername=f"{POSTGRESQL}+psycopg")
    if parsed.get_backend_name() not in {"sqlite", POSTGRESQL}:
        raise GateError(f"the database must be SQLite or PostgreSQL, not {parsed.drivername}")
    return parsed


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
