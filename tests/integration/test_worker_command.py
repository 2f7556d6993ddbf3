"""The command ``emgate worker``: which queues it works on."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("queues", ["engine,mail", "", " , "])
def test_queues_that_do_not_exist_are_wrong_usage(queues: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "gate", "worker", "--queues", queues],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert "the queues are engine, judging, notification" in answer.stderr
