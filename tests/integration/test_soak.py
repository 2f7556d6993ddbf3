"""Random kills at small size, on both databases; ``make bench-service`` does it with 500."""

from __future__ import annotations

from pathlib import Path

from bench.soak import soak


def test_random_kills_of_workers_and_engines_lose_and_double_nothing(
    database_url: str, tmp_path: Path, tiny_base: Path, base_checkpoint: Path
) -> None:
    done = soak(
        tmp_path / "home",
        tiny_base,
        base_checkpoint,
        submissions=16,
        workers=2,
        kill_every=4.0,
        deadline=300,
        database_url=database_url,
        at_least_kills=2,
    )

    assert done.wrong == []
    assert done.verdicts == 16
    assert done.killed_workers + done.killed_engines >= 2
