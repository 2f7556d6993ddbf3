"""``emgate up`` and the commands that talk to it, as real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from fakes.gate import until

from integration.harness import emgate_in


def emgate(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return emgate_in({**os.environ, "GATE_URL": url}, *arguments)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """The command, the address that it printed, and what it said."""
    (tmp_path / "root" / "empty").mkdir(parents=True)
    said = tmp_path / "said"
    hooks = tmp_path / "hooks.yaml"
    hooks.write_text("send: []\n")
    environment = {**os.environ, "GATE_HOME": str(tmp_path / "home"), "GATE_HOOKS_FILE": str(hooks)}
    options = ["--port", "0", "--checkpoint-root", str(tmp_path / "root")]
    with said.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "gate", "up", *options], stderr=stream, env=environment
        )
    try:
        found = until(lambda: re.search(r"gate is at (http://\S+)", said.read_text()), 120)
        yield process, found[1], said
    finally:
        process.terminate()
        process.wait(60)


def test_everything_runs_is_mended_and_is_stopped(
    started: tuple[subprocess.Popen[bytes], str, Path], tmp_path: Path
) -> None:
    process, url, said = started
    refused = emgate(url, "submit", "/etc", "--wait")
    assert refused.returncode == 2
    assert "not under a checkpoint root" in refused.stderr

    empty = str(tmp_path / "root" / "empty")
    broken = emgate(url, "submit", empty, "--wait", "--json", "--timeout", "100")
    assert broken.returncode == 4, broken.stderr
    submission = json.loads(broken.stdout)["submission"]
    assert submission["state"] == "failed"
    assert json.loads(broken.stderr)["error"]["kind"] == "broken"
    assert submission["id"] in emgate(url, "list").stdout
    assert emgate(url, "status", submission["id"], "--json").returncode == 0

    parts = psutil.Process(process.pid).children(recursive=True)
    assert any("notification" in p.cmdline() for p in parts)
    api = next(p for p in parts if p.cmdline()[1:4] == ["-m", "gate", "serve"])
    api.kill()
    until(lambda: "the api died; starting it again (1 of 5)" in said.read_text())
    until(lambda: answers(url))

    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert psutil.wait_procs(parts, timeout=30)[1] == []


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
