"""Leases that are lost and taken over are counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import update

from gate.settings import Settings
from gate.store.database import open_database
from gate.store.judges import JudgeStore
from gate.store.submissions import SubmissionRecord
from gate.store.tables import SubmissionRow
from gate.store.transcripts import TranscriptRecord
from gate.submission import State, SubmissionRequest
from workers.engine.warm import WarmEngine
from workers.lease import lease
from workers.run import Run


class Gate:
    """A record with one submission, and a worker that never gets as far as its engine."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.database = open_database(self.settings.database)
        self.record = SubmissionRecord(self.database)
        self.id = self.record.create(SubmissionRequest(checkpoint="/c"), "api").id

    def run(self) -> Run:
        return Run(
            self.settings,
            self.record,
            TranscriptRecord(self.database),
            JudgeStore(self.database),
            WarmEngine(self.settings),
            lambda: pytest.fail("no judge is needed"),
        )


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(f"emgate_lease_{name}_total") or 0.0


@pytest.mark.parametrize(("seconds", "taken_over"), [(-1, 1), (60, 0), (None, 0)])
def test_only_a_lease_that_ran_out_is_taken_over(
    gate: Gate, seconds: float | None, taken_over: int
) -> None:
    if seconds is not None:
        assert gate.record.acquire(gate.id, "another worker", seconds)
    before = counted("takeovers")
    with lease(gate.record, gate.id, "worker") as held:
        assert (held is None) == (seconds == 60)
    assert counted("takeovers") == before + taken_over


def test_a_run_that_no_longer_holds_its_submission_counts_as_a_loss(gate: Gate) -> None:
    before = counted("losses")
    with lease(gate.record, gate.id, "worker") as held:
        assert held
        with gate.database.begin() as connection:
            connection.execute(update(SubmissionRow).values(lease_owner="another worker"))
        gate.run().take(held)
    assert counted("losses") == before + 1


def test_a_run_whose_submission_was_cancelled_lost_nothing(gate: Gate) -> None:
    before = counted("losses")
    with lease(gate.record, gate.id, "worker") as held:
        assert held
        gate.record.move(gate.id, State.CANCELLED)
        gate.run().take(held)
    assert counted("losses") == before
