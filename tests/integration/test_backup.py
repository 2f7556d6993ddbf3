"""A backup of a gate that works, and a gate that goes on from it."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.gate import until
from postgresql import PostgreSQL
from sqlalchemy import make_url
from unit.builders import answer

from gate.errors import GateError
from gate.settings import Settings
from gate.store import schema
from gate.store.backup import back_up
from gate.store.database import connect, open_database
from gate.store.submissions import SubmissionRecord
from gate.store.transcripts import TranscriptRecord
from gate.submission import State, SubmissionRequest
from integration.harness import Service, emgate, local_service


def test_a_gate_goes_on_from_the_backup_of_one_that_ran(
    fresh_service: Callable[..., Service],
    tiny_base: Path,
    tiny_adapter: Path,
    tmp_path: Path,
    checkpoint_root: Path,
    base_checkpoint: Path,
) -> None:
    lost = fresh_service()
    decided = lost.submit(tiny_adapter, tiny_base)
    assert lost.wait(decided)["state"] == "decided"
    lost.engines.set_fault("hold")
    running = lost.submit(tiny_adapter, tiny_base, "fails")
    until(lambda: lost.get(running).json()["state"] == "sampling")

    copy = tmp_path / "copy.db"
    done = emgate(lost.settings, "db", "backup", str(copy))

    assert done.returncode == 0, done.stderr
    for part in ("worker", "api"):
        lost.kill(part)
    home = tmp_path / "restored"
    home.mkdir()
    copy.rename(home / "gate.db")
    with local_service(home, [checkpoint_root], base_checkpoint) as restored:
        assert restored.get(decided, "/verdict").json()["outcome"] == "pass"
        ended = restored.wait(running)
        assert ended["state"] == "decided", ended["error"]
        assert ended["outcome"] == "fail"
        assert restored.record.verdicts(running) == 1


def test_a_copy_is_of_one_moment_while_others_write(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    transcripts = TranscriptRecord(open_database(url))
    transcript = transcripts.open("owner", "sha256:c", "sha256:b", "vllm")
    transcripts.add(transcript, [answer(f"a{n}") for n in range(200)])
    # A transaction that is open, as another process would have it.
    other = sqlite3.connect(tmp_path / "gate.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM samples")

    size = back_up(url, tmp_path / "copy.db")

    other.execute("COMMIT")
    other.close()
    assert size == (tmp_path / "copy.db").stat().st_size
    copied = TranscriptRecord(open_database(f"sqlite:///{tmp_path / 'copy.db'}"))
    assert len(copied.samples(transcript)) == 200
    assert not transcripts.samples(transcript)


def test_a_backup_never_takes_the_place_of_a_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    open_database(url)
    (tmp_path / "copy.db").write_text("last week's")

    with pytest.raises(GateError, match=r"copy\.db exists; name a new file"):
        back_up(url, tmp_path / "copy.db")

    assert (tmp_path / "copy.db").read_text() == "last week's"
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:////nowhere/gate.db", "there is no database at /nowhere/gate.db"),
        ("sqlite://", "only an SQLite file can be copied"),
        ("postgresql://gate:secret@db/gate", "pg_dump --format=custom .*postgresql://gate@db/gate"),
    ],
)
def test_what_cannot_be_copied_is_said(url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=said) as raised:
        back_up(url, tmp_path / "copy.db")

    assert "secret" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_not_there_ends_the_command_with_one_sentence(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    open_database(settings.database)

    done = emgate(settings, "db", "backup", str(tmp_path / "missing" / "copy.db"))

    assert done.returncode == 4
    assert done.stderr.startswith("emgate: the backup ")
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_commands_for_postgresql_bring_everything_back(
    postgres: PostgreSQL, tmp_path: Path
) -> None:
    live, empty = postgres.new_database(), postgres.new_database()
    record = SubmissionRecord(open_database(live))
    made = record.create(SubmissionRequest(checkpoint="/c", metadata={"note": "ü"}), "api")
    record.move(made.id, State.FAILED, error="the engine died")
    dump = tmp_path / "gate.dump"

    tools = Path(postgres.server.bin_path)
    commands: tuple[list[str | Path], ...] = (
        [tools / "pg_dump", "--format=custom", f"--file={dump}", plain(live)],
        [tools / "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={plain(empty)}", dump],
    )
    for command in commands:
        subprocess.run(command, check=True, timeout=60)

    assert schema.standing(connect(empty)) is schema.Standing.CURRENT
    assert SubmissionRecord(open_database(empty)).get(made.id) == record.get(made.id)


def plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
