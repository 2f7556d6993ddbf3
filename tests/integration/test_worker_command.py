"""The command ``emgate worker``: which queues it works on."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("queues", "says"),
    [
        ("engine,mail", "the queues are engine, judging, notification"),
        ("", "the queues are engine, judging, notification"),
        (" , ", "the queues are engine, judging, notification"),
        ("judging,engine", "engine and judging need a worker each"),
    ],
)
def test_queues_that_no_worker_can_have_are_wrong_usage(queues: str, says: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "gate", "worker", "--queues", queues],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert says in answer.stderr
