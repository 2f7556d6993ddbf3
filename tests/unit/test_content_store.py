"""The store of fetched and uploaded checkpoints: whole or not at all, bounded, safe to share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gate import content_store
from gate.content_store import FILES, ContentStore, NoRoomError, Occupant, may_go
from gate.file_lock import file_lock

REPOSITORY = Path(__file__).resolve().parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from gate.content_store import ContentStore
with ContentStore(Path(sys.argv[1]), 1000).held("a") as files:
    print(files, flush=True)
    time.sleep(300)
"""


def maker(size: int = 100, name: str = "file") -> Callable[[Path], None]:
    def make(part: Path) -> None:
        (part / FILES / name).write_bytes(b"x" * size)

    return make


def put(store: ContentStore, key: str, size: int = 100, age: float = 0) -> Path:
    with store.holding(key, size, maker(size)) as files:
        pass
    lock = store.root / "locks" / key
    os.utime(lock, (lock.stat().st_mtime - age,) * 2)
    return files


def keys(store: ContentStore) -> set[str]:
    return {entry.name for entry in (store.root / "entries").iterdir()}


def never(part: Path) -> None:
    raise AssertionError("made again")


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path, limit=250)


def test_an_entry_is_made_once_and_found_afterwards(store: ContentStore) -> None:
    files = put(store, "a")
    with store.holding("a", 100, never) as again:
        assert again == files
        assert (again / "file").read_bytes() == b"x" * 100
    assert store.sizes("a") == {"file": 100}
    assert store.sizes("b") is None


def test_an_entry_that_cannot_be_made_leaves_nothing(store: ContentStore) -> None:
    def breaks(part: Path) -> None:
        maker()(part)
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"), store.holding("a", 100, breaks):
        pass
    assert keys(store) == set()
    assert list((store.root / "parts").iterdir()) == []


def test_a_part_may_be_kept_for_the_next_attempt(store: ContentStore) -> None:
    def breaks(part: Path) -> None:
        maker(60, "first")(part)
        raise OSError("broken")

    def goes_on(part: Path) -> None:
        assert (part / FILES / "first").stat().st_size == 60
        maker(40, "second")(part)

    with pytest.raises(OSError, match="broken"), store.holding("a", 100, breaks, keep_part=True):
        pass
    with store.holding("a", 100, goes_on, keep_part=True):
        assert store.sizes("a") == {"first": 60, "second": 40}


def test_the_longest_unused_make_room(store: ContentStore) -> None:
    put(store, "old", age=100)
    put(store, "new", age=50)
    put(store, "newest")
    assert keys(store) == {"new", "newest"}
    assert not (store.root / "locks" / "old").exists()


def test_use_counts_and_not_age_alone(store: ContentStore) -> None:
    put(store, "a", age=100)
    put(store, "b", age=50)
    with store.held("a"):
        pass
    put(store, "c")
    assert keys(store) == {"a", "c"}


def test_what_is_in_use_stays(store: ContentStore) -> None:
    put(store, "a", age=100)
    put(store, "b", age=50)
    with store.held("a") as files:
        put(store, "c")
        assert files is not None
        assert (files / "file").exists()
    assert keys(store) == {"a", "c"}


def test_there_is_no_room_while_everything_is_in_use(store: ContentStore) -> None:
    put(store, "a")
    put(store, "b")
    with store.held("a"), store.held("b"), pytest.raises(NoRoomError, match="in use"):
        put(store, "c")
    put(store, "c")


def test_what_is_larger_than_the_bound_is_not_begun(store: ContentStore) -> None:
    put(store, "a")
    with pytest.raises(NoRoomError, match="more than"), store.holding("b", 251, never):
        pass
    assert keys(store) == {"a"}


def test_a_full_disk_makes_room_too(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "a", age=100)

    def free(_self: ContentStore) -> int:
        return 100 if keys(store) == set() else 99

    monkeypatch.setattr(ContentStore, "free", free)
    put(store, "b")
    assert keys(store) == {"b"}
    monkeypatch.setattr(ContentStore, "free", lambda _self: 0)
    with pytest.raises(NoRoomError, match=r"0\.00 GiB to give"), store.holding("c", 100, never):
        pass


def test_a_part_counts_with_the_room_that_it_claimed(store: ContentStore) -> None:
    def meanwhile(part: Path) -> None:
        with pytest.raises(NoRoomError), store.holding("b", 100, never):
            pass
        maker(200)(part)

    with store.holding("a", 200, meanwhile):
        pass
    assert keys(store) == {"a"}


def test_an_entry_is_kept_for_a_time(tmp_path: Path) -> None:
    store = ContentStore(tmp_path, limit=250, keep_seconds=60)
    put(store, "a", age=100)
    put(store, "b", age=30)
    put(store, "c")
    with pytest.raises(NoRoomError, match="to be kept"):
        put(store, "d")
    assert keys(store) == {"b", "c"}


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "more", "manifest"])
def test_a_damaged_entry_is_made_again_and_never_used(store: ContentStore, damage: str) -> None:
    files = put(store, "a")
    if damage == "changed":
        (files / "file").write_bytes(b"y" * 100)
    elif damage == "cut":
        (files / "file").write_bytes(b"x")
    elif damage == "gone":
        (files / "file").unlink()
    elif damage == "more":
        (files / "more").write_bytes(b"x")
    else:
        (files.parent / content_store.MANIFEST).write_text("[]")
    with store.held("a") as found:
        assert found is None
    with store.holding("a", 100, maker()) as again:
        assert (again / "file").read_bytes() == b"x" * 100


def test_an_entry_held_by_another_process_stays_until_that_is_killed(
    tmp_path: Path, store: ContentStore
) -> None:
    put(store, "a", age=100)
    put(store, "b", age=50)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == str(tmp_path / "entries" / "a" / FILES)
    os.utime(tmp_path / "locks" / "a", (0, 0))
    put(store, "c", age=20)
    assert keys(store) == {"a", "c"}
    os.utime(tmp_path / "locks" / "a", (0, 0))
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    put(store, "d")
    assert keys(store) == {"c", "d"}


def test_one_makes_while_the_others_wait(store: ContentStore) -> None:
    made: list[int] = []
    begun, proceed = threading.Event(), threading.Event()
    found: list[bytes] = []

    def slowly(part: Path) -> None:
        made.append(1)
        begun.set()
        assert proceed.wait(30)
        maker()(part)

    def use() -> None:
        with store.holding("a", 100, slowly, waiting=proceed.set) as files:
            found.append((files / "file").read_bytes())

    users = [threading.Thread(target=use) for _ in range(4)]
    users[0].start()
    assert begun.wait(30)
    for user in users[1:]:
        user.start()
    for user in users:
        user.join(60)
    assert (len(made), found) == (1, [b"x" * 100] * 4)


def test_a_wait_ends_when_it_is_told_to(store: ContentStore) -> None:
    class CancelledError(Exception):
        pass

    def cancel() -> None:
        raise CancelledError

    def meanwhile(part: Path) -> None:
        with pytest.raises(CancelledError), store.holding("a", 100, never, waiting=cancel):
            pass
        maker()(part)

    with store.holding("a", 100, meanwhile):
        assert keys(store) == {"a"}


def test_parts_of_the_dead_are_removed_and_those_of_the_living_stay(store: ContentStore) -> None:
    (store.root / "parts" / "dead").mkdir()

    def meanwhile(part: Path) -> None:
        store.remove_abandoned_parts()
        assert part.is_dir()
        maker()(part)

    with store.holding("living", 100, meanwhile):
        assert keys(store) == {"living"}
    assert not (store.root / "parts" / "dead").exists()


def test_a_lock_whose_file_was_removed_excludes_nobody_and_is_taken_anew(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock") as first, file_lock(tmp_path / "lock") as second:
        assert first.try_acquire(exclusive=True)
        assert not second.try_acquire(exclusive=False)
        first.path.unlink()
        first.release()
        assert not second.try_acquire(exclusive=True)  # the file that it had opened is gone
        assert second.try_acquire(exclusive=True)


def test_which_may_go_is_a_matter_of_last_use() -> None:
    occupants = [Occupant("a", 1, 30.0), Occupant("b", 1, 10.0), Occupant("c", 1, 20.0)]
    assert [o.key for o in may_go(occupants, idle_since=20.0)] == ["b", "c"]
