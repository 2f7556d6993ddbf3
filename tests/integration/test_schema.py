"""Tables and migrations on SQLite and PostgreSQL: new, current, older, newer, and many at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from gate.errors import GateError
from gate.store import schema
from gate.store.database import connect, metadata, open_database
from gate.store.submissions import SubmissionRecord


def emgate(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gate", *arguments],
        env={**os.environ, "GATE_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


def set_revision(url: str, revision: str) -> None:
    with connect(url).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})


def test_the_migrations_make_exactly_the_tables_that_the_code_describes(database_url: str) -> None:
    with open_database(database_url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata()) == []


def test_the_newest_migration_is_the_one_that_the_code_requires() -> None:
    assert schema.known_revisions()[-1] == schema.NEWEST


def test_a_new_database_is_made_when_it_is_opened_and_then_only_opened(database_url: str) -> None:
    assert schema.standing(connect(database_url)) is schema.Standing.NEW

    open_database(database_url)

    assert schema.standing(connect(database_url)) is schema.Standing.CURRENT
    assert not schema.upgrade(open_database(database_url))


def test_many_that_open_a_new_database_at_once_all_get_it(database_url: str) -> None:
    together = Barrier(6)

    def opened(_: int) -> str | None:
        together.wait()
        return schema.revision(open_database(database_url))

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(opened, range(6))) == {schema.NEWEST}


def test_processes_that_open_a_new_database_at_once_all_get_it(database_url: str) -> None:
    code = "import sys; from gate.store.database import open_database; open_database(sys.argv[1])"
    started = [
        subprocess.Popen([sys.executable, "-c", code, database_url], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [process.communicate()[1].decode() for process in started] == ["", "", ""]
    assert [process.returncode for process in started] == [0, 0, 0]


def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    open_database(database_url)
    set_revision(database_url, "9999")

    with pytest.raises(GateError, match="newer em-gate, at 9999"):
        open_database(database_url)
    with pytest.raises(GateError, match="newer em-gate"):
        schema.upgrade(connect(database_url))


def test_a_database_of_an_older_version_is_refused_with_what_to_do(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_database(database_url)
    monkeypatch.setattr(schema, "NEWEST", "9999")

    with pytest.raises(GateError, match="run `emgate db upgrade`"):
        open_database(database_url)


def test_tables_without_a_version_are_refused(database_url: str) -> None:
    metadata().create_all(connect(database_url))

    with pytest.raises(GateError, match="tables of em-gate but no version"):
        open_database(database_url)


def test_a_migration_that_breaks_leaves_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerCutError(Exception):
        pass

    def cut(*_: object, **__: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as broken:
        from alembic.runtime.migration import HeadMaintainer

        broken.setattr(HeadMaintainer, "update_to_step", cut)
        with pytest.raises(PowerCutError):
            open_database(database_url)
    assert schema.standing(connect(database_url)) is schema.Standing.NEW

    open_database(database_url)


def test_the_command_says_how_it_stands_and_upgrades(database_url: str) -> None:
    before = emgate(database_url, "db", "status", "--json")
    assert (before.returncode, json.loads(before.stdout)["standing"]) == (1, "new")

    first = emgate(database_url, "db", "upgrade")
    assert first.returncode == 0, first.stderr
    assert f"upgraded from nothing to {schema.NEWEST}" in first.stdout
    assert "already" in emgate(database_url, "db", "upgrade").stdout
    assert emgate(database_url, "db", "status").returncode == 0


def test_submissions_of_the_first_version_are_kept(database_url: str) -> None:
    engine = connect(database_url)
    with engine.begin() as connection:
        command.upgrade(schema.alembic_config(connection), "0001")
        row = "'sub_1', 'queued', '/c', 'default', '[]', '{}', 'api', false, '2026-01-01', 0, 0"
        names = "id, state, checkpoint, policy, contexts, metadata, source, fresh, created_at"
        connection.execute(
            text(f"INSERT INTO submissions ({names}, attempts, postponements) VALUES ({row})")
        )

    assert schema.upgrade(engine)

    kept = SubmissionRecord(engine).get("sub_1")
    assert (kept.checkpoint, kept.traceparent) == ("/c", None)


def test_a_database_that_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    answer = emgate(f"postgresql://nobody@/gate?host={tmp_path}", "db", "upgrade")

    assert answer.returncode == 4
    assert answer.stderr.startswith("emgate: ")
    assert "Traceback" not in answer.stderr


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(GateError, match="SQLite or PostgreSQL"):
        connect("mysql://host/name")
    with pytest.raises(GateError, match="not a URL"):
        connect("gate.db")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_plain_urls_of_postgresql_get_the_driver_that_is_installed(scheme: str) -> None:
    assert connect(f"{scheme}://host/name").url.drivername == "postgresql+psycopg"
