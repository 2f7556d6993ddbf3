"""Opening the database, and what SQLite needs to be safe with several processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from gate.errors import GateError
from gate.store import access_tables, hook_tables  # noqa: F401  (they register their tables)
from gate.store.tables import Table

#: How long a writer waits for another one, in seconds.
BUSY_SECONDS = 30


def open_database(url: str) -> Engine:
    """Open the database and create the tables that are missing."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, pool_pre_ping=True)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    Table.metadata.create_all(engine)
    _require_this_version(engine)
    return engine


def _require_this_version(engine: Engine) -> None:
    """Refuse a record whose tables lack columns, instead of failing in the middle of a run."""
    found = inspect(engine)
    for name, table in Table.metadata.tables.items():
        missing = {c.name for c in table.columns} - {c["name"] for c in found.get_columns(name)}
        if missing:
            shown = engine.url.render_as_string(hide_password=True)
            raise GateError(
                f"{shown} was written by another version of em-gate: its table {name} has no "
                f"{', '.join(sorted(missing))}. Move it away or set GATE_DATABASE_URL to another."
            )


def insert_new(engine: Engine, table: type[Table], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows in one transaction; those that break a unique constraint are left out."""
    if rows:
        with Session(engine) as session, session.begin():
            keep_new(session, table, rows)


def keep_new(session: Session, table: type[Table], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows in a transaction; those that break a unique constraint are left out."""
    postgres = session.get_bind().dialect.name == "postgresql"
    insert = postgresql.insert if postgres else sqlite.insert
    session.execute(insert(table).on_conflict_do_nothing(), list(rows))


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
