"""Which version of the tables a database has, and bringing it to this one's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from gate.errors import GateError
from gate.store.database import POSTGRESQL, metadata

if TYPE_CHECKING:
    from alembic.config import Config

#: The newest migration; a test holds it to gate/store/migrations.
NEWEST = "0003"
MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"
#: Any number that other programs on the same PostgreSQL are unlikely to lock.
_ADVISORY_LOCK = 0x656D67617465


class Standing(StrEnum):
    """How a database stands to this version of em-gate."""

    NEW = "new"
    CURRENT = "current"
    OLDER = "older"
    OTHER = "other"
    UNVERSIONED = "unversioned"


def standing(engine: Engine) -> Standing:
    """How a database stands to this version."""
    with engine.connect() as connection:
        return _standing(connection)


def revision(engine: Engine) -> str | None:
    """The migration that a database is at; None of one without any."""
    with engine.connect() as connection:
        return _revision(connection)


def make_or_require(engine: Engine) -> None:
    """Make the tables of a new database; refuse one of another version.

    Raises:
        GateError: says which version it has and what to do.
    """
    found = standing(engine)
    if found is Standing.NEW:
        # Another process may be faster; the lock lets it finish, and then nothing is left to do.
        upgrade(engine)
        found = standing(engine)
    _refuse_unless(engine, found, {Standing.CURRENT})


def require_current(engine: Engine) -> None:
    """Refuse a database that does not have the tables of this version; changes nothing.

    Raises:
        GateError: says which version it has and what to do.
    """
    _refuse_unless(engine, standing(engine), {Standing.CURRENT})


def upgrade(engine: Engine) -> bool:
    """Bring a database to this version in one transaction; False if there was nothing to do.

    Processes that try at once wait for each other.

    Raises:
        GateError: it was made by a newer version, or by none.
    """
    from alembic import command

    with _alone(engine) as connection:
        found = _standing(connection)
        if found is Standing.CURRENT:
            return False
        _refuse_unless(engine, found, {Standing.NEW, Standing.OLDER})
        command.upgrade(alembic_config(connection), "head")
        return True


def alembic_config(connection: Connection) -> Config:
    """What Alembic needs to migrate over this connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def known_revisions() -> list[str]:
    """All migrations, oldest first."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    return [step.revision for step in script.walk_revisions()][::-1]


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return found


def _standing(connection: Connection) -> Standing:
    found = _revision(connection)
    if found == NEWEST:
        return Standing.CURRENT
    if found is None:
        ours = set(metadata().tables) & set(inspect(connection).get_table_names())
        return Standing.UNVERSIONED if ours else Standing.NEW
    return Standing.OLDER if found in known_revisions() else Standing.OTHER


def _refuse_unless(engine: Engine, found: Standing, allowed: set[Standing]) -> None:
    if found in allowed:
        return
    shown = engine.url.render_as_string(hide_password=True)
    raise GateError(
        {
            Standing.NEW: f"{shown} has no tables; run `emgate db upgrade`",
            Standing.OLDER: f"{shown} has the tables of an older em-gate ({revision(engine)}, this "
            f"one needs {NEWEST}); make a backup, then run `emgate db upgrade`",
            Standing.OTHER: f"{shown} has the tables of a newer em-gate, at {revision(engine)}, "
            "which this one does not know; install that version, then run `emgate db upgrade`",
            Standing.UNVERSIONED: f"{shown} has tables of em-gate but no version, so that `emgate "
            "db upgrade` cannot know what they lack; move it away or set GATE_DATABASE_URL to "
            "another",
            Standing.CURRENT: f"{shown} is up to date",
        }[found]
    )


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction in which nobody else changes the tables."""
    with engine.connect() as connection:
        if engine.dialect.name == POSTGRESQL:
            with connection.begin():
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _ADVISORY_LOCK})
                yield connection
            return
        # Python's driver begins no transaction before CREATE TABLE, and a deferred one would let
        # two processes in.
        driver = connection.connection.dbapi_connection
        if driver is None:
            raise GateError("the connection to the database was lost")
        before, driver.isolation_level = driver.isolation_level, None
        try:
            with connection.begin():
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        finally:
            driver.isolation_level = before
