"""Nothing outlives its owner: shown with plain ``sleep`` and real signals, no engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from workers.engine.keeper import PID_FILE, end_tree

REPOSITORY = Path(__file__).resolve().parents[2]
#: The shell and both its children are descendants of the keeper; the second is in its own session.
FAMILY = "sleep 300 & setsid sleep 300 & wait"
#: Deaf to SIGTERM, like an engine that hangs.
DEAF = "(trap '' TERM; echo deaf; while true; do sleep 0.2; done); exec sleep 300"

pytestmark = pytest.mark.timeout(60)


def eventually(what: Callable[[], bool], seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def room(tmp_path: Path) -> Path:
    (tmp_path / "private").mkdir()
    return tmp_path / "private"


@pytest.fixture
def keep(room: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    seen: set[psutil.Process] = set()

    def start(*command: str, stdin: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "workers.engine.keeper", "--remove", str(room), "--", *command],
            cwd=REPOSITORY,
            stdin=stdin,
        )
        started.append(keeper)
        return keeper

    yield start
    for keeper in started:
        if keeper.poll() is None:
            seen.update(psutil.Process(keeper.pid).children(recursive=True))
            keeper.kill()
        keeper.wait()
        if keeper.stdin:
            keeper.stdin.close()
    for process in seen:
        if process.is_running():
            process.kill()


def family(keeper: subprocess.Popen[bytes], size: int) -> list[psutil.Process]:
    process = psutil.Process(keeper.pid)
    assert eventually(lambda: len(process.children(recursive=True)) >= size)
    return process.children(recursive=True)


def test_the_status_of_the_command_is_passed_on_and_the_directory_removed(
    keep: Callable[..., subprocess.Popen[bytes]], room: Path
) -> None:
    keeper = keep("sh", "-c", "exit 7")
    assert keeper.wait(20) == 7
    assert not room.exists()


def test_the_owner_finds_the_command_by_its_process_id(
    keep: Callable[..., subprocess.Popen[bytes]], room: Path
) -> None:
    keeper = keep("sleep", "300")
    (child,) = family(keeper, 1)
    noted = room / PID_FILE
    assert eventually(lambda: noted.exists() and noted.read_text() == str(child.pid))


def test_when_the_owner_lets_go_every_descendant_ends_and_the_directory_goes(
    keep: Callable[..., subprocess.Popen[bytes]], room: Path
) -> None:
    keeper = keep("sh", "-c", FAMILY)
    members = family(keeper, 3)
    assert keeper.stdin
    keeper.stdin.close()
    assert keeper.wait(20) == 128 + signal.SIGTERM
    assert all(gone(member) for member in members)
    assert not room.exists()


def test_when_the_owner_is_killed_every_descendant_ends(
    keep: Callable[..., subprocess.Popen[bytes]], room: Path
) -> None:
    reading, writing = os.pipe()
    owner = subprocess.Popen(["sleep", "300"], pass_fds=[writing])
    os.close(writing)
    keeper = keep("sh", "-c", FAMILY, stdin=reading)
    os.close(reading)
    members = family(keeper, 3)
    owner.kill()
    owner.wait()
    assert keeper.wait(20) == 128 + signal.SIGTERM
    assert all(gone(member) for member in members)
    assert not room.exists()


def test_when_the_command_ends_what_it_left_running_ends_too(
    keep: Callable[..., subprocess.Popen[bytes]], room: Path
) -> None:
    left = room.parent / "left"
    keeper = keep("sh", "-c", f"setsid sleep 300 & echo $! > {left}; exit 3")
    assert keeper.wait(20) == 3
    assert eventually(lambda: not psutil.pid_exists(int(left.read_text())))


def test_a_keeper_that_is_killed_takes_its_command_along(
    keep: Callable[..., subprocess.Popen[bytes]],
) -> None:
    keeper = keep("sleep", "300")
    (child,) = family(keeper, 1)
    assert eventually(lambda: child.name() == "sleep")
    keeper.kill()
    assert eventually(lambda: gone(child))


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_meant_for_the_owner_does_not_end_the_keeper_first(
    keep: Callable[..., subprocess.Popen[bytes]], room: Path, sent: signal.Signals
) -> None:
    keeper = keep("sleep", "300")
    assert eventually((room / PID_FILE).exists)
    keeper.send_signal(sent)
    with pytest.raises(subprocess.TimeoutExpired):
        keeper.wait(0.3)
    assert keeper.stdin
    keeper.stdin.close()
    assert keeper.wait(20) == 128 + signal.SIGTERM


def test_a_process_that_is_deaf_to_sigterm_is_killed() -> None:
    root = subprocess.Popen(["sh", "-c", DEAF], stdout=subprocess.PIPE)
    try:
        assert root.stdout
        assert root.stdout.readline() == b"deaf\n"
        (child,) = psutil.Process(root.pid).children()
        end_tree(root.pid, grace=0.3)
        assert gone(child)
    finally:
        root.kill()
        root.communicate()


def test_ending_a_tree_spares_its_root_and_everybody_else() -> None:
    bystander = subprocess.Popen(["sleep", "300"])
    root = subprocess.Popen(["sh", "-c", "sleep 300; exec sleep 300"])
    try:
        assert eventually(lambda: len(psutil.Process(root.pid).children()) == 1)
        (child,) = psutil.Process(root.pid).children()
        end_tree(root.pid, grace=1)
        assert gone(child)
        assert bystander.poll() is None
        assert root.poll() is None
    finally:
        for process in (root, bystander):
            process.kill()
            process.wait()
