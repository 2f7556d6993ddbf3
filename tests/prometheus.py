"""A real Prometheus for tests: its own server on a free port, gone at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from fakes.gate import until
from fakes.receiver import free_port

#: How often the tests scrape, in seconds.
SCRAPE_SECONDS = 2


@dataclass(frozen=True)
class Prometheus:
    """One server, asked over HTTP as Grafana asks it."""

    api: httpx.Client

    def ask(self, path: str, **parameters: str | float) -> Any:
        """The data of an answer; an error of the query fails the test with Prometheus' words."""
        answer = self.api.post(f"/api/v1/{path}", data=parameters)
        assert answer.status_code == httpx.codes.OK, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    def now(self, expr: str) -> list[dict[str, Any]]:
        """The series of a query at this moment."""
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return found

    def label_values(self, series: str, label: str) -> list[str]:
        """The values of a label of some series."""
        answer = self.api.get(f"/api/v1/label/{label}/values", params={"match[]": series})
        values: list[str] = answer.raise_for_status().json()["data"]
        return values

    def wait_for_scrapes(self, of: int) -> None:
        """Until so many targets have been scraped anew, so that all has arrived that is now."""
        begun = time.time()
        until(lambda: len(self.now(f"timestamp(up) > {begun} and up == 1")) == of, 60)


@contextmanager
def prometheus(directory: Path, jobs: Mapping[str, Sequence[str]]) -> Iterator[Prometheus]:
    """Scrape these jobs, each a list of ``host:port``, into ``directory``."""
    directory.mkdir(parents=True)
    scraped = [
        {"job_name": name, "static_configs": [{"targets": list(targets)}]}
        for name, targets in jobs.items()
    ]
    every = {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"}
    config = directory / "prometheus.yml"
    config.write_text(yaml.safe_dump({"global": every, "scrape_configs": scraped}))
    with prometheus_of(config) as server:
        yield server


@contextmanager
def prometheus_of(config: Path) -> Iterator[Prometheus]:
    """Run with a configuration; the data and the log lie beside it."""
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={config.parent / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        # An alert that comes before the server knows where to send it is sent again so soon.
        "--rules.alert.resend-delay=1s",
        "--log.level=warn",
    ]
    log = config.parent / "prometheus.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)

    def answers() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            return api.get("/-/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as api:
            until(answers, 60)
            yield Prometheus(api)
    finally:
        server.terminate()
        server.wait(60)


def program(name: str) -> str:
    """Where ``make prometheus`` put a program, or where the system has it."""
    path = os.pathsep.join([str(Path(sys.prefix) / "prometheus"), os.environ["PATH"]])
    found = shutil.which(name, path=path)
    assert found, f"{name} was not found: run make prometheus"
    return found
