"""A disk that runs full while merging: a clear error, and nothing half-written is left."""

from __future__ import annotations

import contextlib
import errno
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes.gate import until

from gate.submission import State
from integration.harness import Bench
from workers.checkpoint import merge
from workers.checkpoint.inspection import Inspected, inspect_adapter, inspect_full_model
from workers.checkpoint.merge import DiskFullError, merge_adapter

MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[Path, int], Path]]:
    """Mounts a file system of a given size; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(place: Path, size: int) -> Path:
        place.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting a small file system needs root")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="module")
def parts(tiny_base: Path, tiny_adapter: Path) -> tuple[Inspected, Inspected]:
    base = inspect_full_model(tiny_base)
    return base, inspect_adapter(tiny_adapter, base)


@pytest.fixture
def no_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a merge begin although there is no room for it."""
    monkeypatch.setattr(merge, "DISK_RESERVE_BYTES", -(2**40))


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("no_reserve")
@pytest.mark.parametrize("size", [MIB, 5 * MIB], ids=["weights", "tokenizer"])
def test_a_disk_that_runs_full_while_merging_is_named(
    parts: tuple[Inspected, Inspected],
    small_disk: Callable[[Path, int], Path],
    tmp_path: Path,
    size: int,
) -> None:
    disk = small_disk(tmp_path / "disk", size)

    with pytest.raises(DiskFullError, match=f"{disk} ran full while merging"):
        merge_adapter(*parts, disk / "merged")


@pytest.mark.usefixtures("no_reserve")
def test_a_file_that_may_not_grow_is_a_full_disk(
    parts: tuple[Inspected, Inspected], tmp_path: Path
) -> None:
    with largest_file(MIB), pytest.raises(DiskFullError, match="ran full while merging"):
        merge_adapter(*parts, tmp_path / "merged")


@pytest.mark.usefixtures("no_reserve")
def test_the_system_saying_enospc_is_a_full_disk(
    parts: tuple[Inspected, Inspected], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copyfile(_source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", copyfile)

    with pytest.raises(DiskFullError, match="ran full while merging"):
        merge_adapter(*parts, tmp_path / "merged")


def test_a_merge_that_has_no_room_is_not_begun(
    parts: tuple[Inspected, Inspected], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: SimpleNamespace(free=10 * MIB))

    with pytest.raises(DiskFullError, match=r"merging needs 67 MiB .* has 10 MiB free"):
        merge_adapter(*parts, tmp_path / "merged")

    assert not (tmp_path / "merged").exists()


@pytest.mark.usefixtures("no_reserve")
def test_a_submission_fails_cleanly_on_a_full_disk(
    bench: Bench, small_disk: Callable[[Path, int], Path], tiny_base: Path, tiny_adapter: Path
) -> None:
    small_disk(bench.settings.work_directory, MIB)

    submission = bench.judge(tiny_adapter, tiny_base)

    assert submission.state is State.FAILED
    assert "ran full while merging" in (submission.error or "")
    assert bench.record.verdicts(submission.id) == 0
    assert bench.engines.events("start") == []
    until(lambda: not bench.leftovers(), 10)


def test_a_submission_is_judged_once_there_is_room_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tiny_base: Path, tiny_adapter: Path
) -> None:
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _place: SimpleNamespace(free=0))
        refused = bench.judge(tiny_adapter, tiny_base)
    assert refused.state is State.FAILED
    assert "free some room" in (refused.error or "")

    again = bench.judge(tiny_adapter, tiny_base)

    assert again.state is State.DECIDED, again.error


def test_a_merged_checkpoint_is_the_adapter_laid_over_its_base(
    parts: tuple[Inspected, Inspected], tmp_path: Path
) -> None:
    from workers.engine.chat_tokens import ChatTokenizer
    from workers.engine.fingerprint import FIXED_TEXTS, reference_fingerprint

    base, adapter = parts
    merged = merge_adapter(base, adapter, tmp_path / "merged")

    tokenizer = ChatTokenizer(base.directory)
    texts = [tokenizer.text_ids(text) for text in FIXED_TEXTS]
    unmerged = reference_fingerprint(base.directory, texts, adapter.directory)
    plain = reference_fingerprint(base.directory, texts)
    written = reference_fingerprint(merged, texts)
    assert written.distance(unmerged) < 0.1
    assert written.distance(plain) > 5 * written.distance(unmerged)
    inspect_full_model(merged)
