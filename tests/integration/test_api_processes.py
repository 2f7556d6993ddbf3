"""``emgate serve --processes 2``: one port, one page of metrics, and a process that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from fakes.gate import environment_of, until
from prometheus_client.multiprocess import MultiProcessCollector

from gate.settings import Settings
from integration.harness import metric
from workers.local_service import _free_port

HEALTH = {"method": "GET", "route": "/health", "status": "200"}


@dataclass(frozen=True)
class Served:
    """An API of two processes."""

    url: str
    parent: psutil.Process
    temporary: Path

    @property
    def directories(self) -> list[Path]:
        return list(self.temporary.glob("em-gate-metrics-*"))

    def asked(self, times: int) -> None:
        """Ask so often, over connections that are all open at once."""

        def ask(_: int) -> None:
            httpx.get(f"{self.url}/health", timeout=30).raise_for_status()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(times)))

    def counted_by(self, pid: int) -> float:
        """How many of these requests one process has counted in its file."""
        (directory,) = self.directories
        files = [str(file) for file in directory.glob(f"counter_{pid}.db")]
        return sum(
            sample.value
            # prometheus_client annotates only part of itself.
            for family in MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
            for sample in family.samples
            if sample.name == "emgate_http_requests_total" and sample.labels == HEALTH
        )

    def counted(self) -> float:
        return metric(f"{self.url}/metrics", "emgate_http_requests_total", HEALTH)

    def began(self) -> float:
        return metric(f"{self.url}/metrics", "emgate_process_started_timestamp_seconds", {})

    def serving(self) -> list[int]:
        """Processes that have served some of these requests."""
        return [child.pid for child in self.parent.children() if self.counted_by(child.pid)]


@pytest.fixture
def served(isolated_settings: Settings, short_tmp: Path) -> Iterator[Served]:
    port = _free_port()
    command = [sys.executable, "-m", "gate", "serve", "--port", str(port), "--processes", "2"]
    # Set by somebody else: it must not be taken.
    environment = environment_of(isolated_settings) | {"PROMETHEUS_MULTIPROC_DIR": "/nowhere"}
    with (short_tmp / "api.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    made = Served(f"http://127.0.0.1:{port}", psutil.Process(process.pid), short_tmp)
    try:
        until(lambda: _answers(made.url) or process.poll() is not None, 180)
        assert process.poll() is None, (short_tmp / "api.log").read_text()
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/", timeout=30).is_success
    except httpx.TransportError:
        return False


def test_one_scrape_gives_the_sums_of_all_processes(served: Served) -> None:
    asked = 0

    def both_have_served() -> bool:
        nonlocal asked
        served.asked(16)
        asked += 16
        return len(served.serving()) == 2

    until(both_have_served)
    assert [served.counted() for _ in range(4)] == [asked] * 4
    page = httpx.get(f"{served.url}/metrics").text
    assert 'pid="' not in page
    assert page.count("# TYPE emgate_http_requests_total ") == 1
    assert "emgate_record_up 1.0" in page

    began = served.began()
    victim = served.serving()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in [child.pid for child in served.parent.children()])
    assert served.counted() == asked
    until(lambda: served.began() > began)

    (directory,) = served.directories
    served.parent.terminate()
    served.parent.wait(30)
    assert not directory.exists()


def test_processes_are_at_least_one() -> None:
    command = [sys.executable, "-m", "gate", "serve", "--processes", "0"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "--processes" in answer.stderr
