"""Working directories and leases belong to one living owner."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from gate.submission import State
from workers.checkpoint import workspace as module
from workers.checkpoint.workspace import remove_abandoned, workspace
from workers.lease import lease

REPOSITORY = Path(__file__).resolve().parents[2]
OWNER = """
import sys, time
from pathlib import Path
from workers.checkpoint.workspace import workspace
with workspace(Path(sys.argv[1])) as room:
    (room / "merged").mkdir()
    print(room, flush=True)
    time.sleep(300)
"""


def test_a_workspace_is_fresh_and_gone_afterwards(tmp_path: Path) -> None:
    with workspace(tmp_path / "work") as one, workspace(tmp_path / "work") as two:
        assert one != two
        (one / "file").write_text("x")
    assert list((tmp_path / "work").iterdir()) == []


def test_a_workspace_is_gone_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="on purpose"), workspace(tmp_path) as room:
        raise RuntimeError("on purpose")
    assert not room.exists()


def test_the_directory_of_a_killed_owner_is_removed_and_that_of_a_live_one_is_kept(
    tmp_path: Path,
) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout
        room = Path(owner.stdout.readline().strip())
        assert remove_abandoned(tmp_path) == []
        assert room.is_dir()
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.communicate()
    assert remove_abandoned(tmp_path) == [room]
    assert not room.exists()


def test_a_workspace_clears_up_after_dead_owners(tmp_path: Path) -> None:
    dead = tmp_path / "run-dead"
    dead.mkdir()
    (dead / "owner.lock").touch()
    with workspace(tmp_path):
        assert not dead.exists()


def test_nobody_clears_up_a_directory_before_its_owner_could_lock_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BetweenOpeningAndLocking:
        LOCK_EX, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_NB

        @staticmethod
        def flock(handle: object, operation: int) -> None:
            if operation == fcntl.LOCK_EX:
                remove_abandoned(tmp_path)
            fcntl.flock(handle, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "fcntl", BetweenOpeningAndLocking)
    with workspace(tmp_path) as room:
        assert room.is_dir()
        assert remove_abandoned(tmp_path) == []


def test_there_is_nothing_to_clear_up_where_there_is_nothing(tmp_path: Path) -> None:
    assert remove_abandoned(tmp_path / "gone") == []


class Leases:
    """Grants or refuses; counts; fails to renew when told to."""

    def __init__(self, free: bool = True, failing: frozenset[int] = frozenset()) -> None:
        self.free, self.failing = free, failing
        self.acquired, self.released = 0, 0
        self.renewed_thrice = threading.Event()

    def has_lapsed(self, submission_id: str) -> bool:
        return False

    def acquire(self, submission_id: str, owner: str, seconds: float) -> bool:
        self.acquired += 1
        if self.acquired >= 4:
            self.renewed_thrice.set()
        if self.acquired in self.failing:
            raise OperationalError("UPDATE", {}, Exception("database is locked"))
        return self.free

    def renew(self, submission_id: str, owner: str, seconds: float) -> State:
        self.acquire(submission_id, owner, seconds)
        return State.SAMPLING

    def release(self, submission_id: str, owner: str) -> None:
        self.released += 1


def test_a_lease_that_another_holds_is_not_taken_and_not_given_back() -> None:
    leases = Leases(free=False)
    with lease(leases, "sub_1", "me") as held:  # type: ignore[arg-type]
        assert not held
    assert (leases.acquired, leases.released) == (1, 0)


def test_a_lease_is_renewed_while_it_is_held_and_given_back_at_the_end() -> None:
    leases = Leases()
    with lease(leases, "sub_1", "me", seconds=0.03) as held:  # type: ignore[arg-type]
        assert held
        assert leases.renewed_thrice.wait(5)
    assert leases.released == 1
    assert "lease-sub_1" not in {thread.name for thread in threading.enumerate()}


def test_a_lease_is_given_back_after_an_error() -> None:
    leases = Leases()
    with pytest.raises(RuntimeError, match="on purpose"), lease(leases, "sub_1", "me"):  # type: ignore[arg-type]
        raise RuntimeError("on purpose")
    assert leases.released == 1


def test_a_database_that_is_away_for_a_moment_does_not_cost_the_lease() -> None:
    leases = Leases(failing=frozenset({2, 3}))
    with lease(leases, "sub_1", "me", 30, heartbeat=0.01) as held:  # type: ignore[arg-type]
        assert held
        assert leases.renewed_thrice.wait(5), "renewing ended with the first error"
