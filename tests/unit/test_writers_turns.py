"""Threads of one process write to SQLite one after another."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gate.store import database as database_module
from gate.store.database import WritersTurns, connect


def test_threads_write_to_sqlite_in_turns_and_none_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.2)
    turns = WritersTurns(connect(f"sqlite:///{tmp_path / 'gate.db'}"))
    inside: list[int] = []
    most: list[int] = []

    def write(number: int) -> None:
        with turns.taken():
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.002)
            inside.remove(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(40)))
        assert (len(most), max(most)) == (40, 1)
        with turns.taken():
            threads.submit(write, 40).result()
    assert len(most) == 41
    with turns.taken():
        pass
