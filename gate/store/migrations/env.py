"""How Alembic reaches the record: over the connection it is handed, or by the settings."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.types import TypeDecorator

from gate.settings import settings
from gate.store.database import connect, metadata


def _as_stored(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write our own types into migrations as what they are in the database."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata(),
        # SQLite cannot change columns in place; Alembic then copies the table.
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        render_item=_as_stored,
        # One transaction around everything, on SQLite too: a kill leaves the old schema whole.
        transactional_ddl=True,
        transaction_per_migration=False,
    )
    context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    _migrate(given)
else:
    # The bare command ``alembic``, for developers: ``alembic revision --autogenerate``.
    with connect(settings().database).begin() as own:
        _migrate(own)
