"""One engine process: started in a private directory, waited for, and always ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from gate.errors import EngineError
from gate.metrics import ENGINE_DEATHS, ENGINE_START_SECONDS, ENGINE_STARTS
from gate.settings import Settings
from workers.engine.command import engine_command, engine_environment, traces_arguments
from workers.engine.keeper import PID_FILE
from workers.engine.log import EngineLog, reason_in

POLL_SECONDS = 0.25
STOP_SECONDS = 15
LOG_TAIL_BYTES = 64 * 1024


class EngineStartTimeoutError(EngineError):
    """The engine runs but does not answer; another one would take as long."""


class EngineProcess:
    """A vLLM server under a keeper, reached over a Unix socket that only its owner may open."""

    def __init__(self, settings: Settings, model: Path) -> None:
        self._settings = settings
        self.model = model
        self.directory = Path(tempfile.mkdtemp(prefix="em-gate-engine-"))
        self.socket = self.directory / "socket"
        self.log = self.directory / "log"
        command = [
            *engine_command(settings, model, self.socket),
            *traces_arguments(settings, os.environ),
        ]
        with self.log.open("wb") as log:
            self._keeper = subprocess.Popen(
                [
                    sys.executable,
                    *("-m", "workers.engine.keeper"),
                    *("--remove", str(self.directory)),
                    "--",
                    *command,
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=engine_environment(settings, os.environ, self.directory),
            )
        self._log_reader = self.log.open("rb")
        self.lines = EngineLog(self.log)

    @classmethod
    def start(
        cls, settings: Settings, model: Path, require: Callable[[], None] = lambda: None
    ) -> EngineProcess:
        """Start an engine and wait until it answers, or until ``require`` raises.

        Raises:
            EngineError: it died or missed the deadline; the message has the reason from its log.
        """
        ENGINE_STARTS.inc()
        began = time.monotonic()
        engine = cls(settings, model)
        try:
            engine._wait_for_health(began + settings.engine_start_seconds, require)
        except BaseException:
            engine.stop()
            raise
        ENGINE_START_SECONDS.observe(time.monotonic() - began)
        return engine

    def _wait_for_health(self, deadline: float, require: Callable[[], None]) -> None:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket))) as client:
            while True:
                self.lines.engine_pid = self._engine_group()
                self.lines.pass_on()
                if not self.alive():
                    ENGINE_DEATHS.inc()
                    raise EngineError(f"the engine died while starting: {self.last_words()}")
                if self.socket.exists() and _healthy(client):
                    return
                if time.monotonic() > deadline:
                    waited = self._settings.engine_start_seconds
                    raise EngineStartTimeoutError(
                        f"the engine did not answer within {waited:g} seconds "
                        f"(GATE_ENGINE_START_SECONDS): {self.last_words()}"
                    )
                require()
                time.sleep(POLL_SECONDS)

    def alive(self) -> bool:
        """Whether the process runs; a dead engine core ends the server, and so this."""
        return self._keeper.poll() is None

    def healthy(self) -> bool:
        """Whether the process runs and says that its engine core does, too."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket))) as client:
            return self.alive() and _healthy(client)

    def last_words(self) -> str:
        """Why it ended, as far as its log says."""
        self._log_reader.seek(max(0, self.log_size() - LOG_TAIL_BYTES))
        return reason_in(self._log_reader.read().decode(errors="replace"))[:500]

    def log_size(self) -> int:
        """Bytes written to the log so far; also after the directory is gone."""
        return os.fstat(self._log_reader.fileno()).st_size

    def stop(self) -> None:
        """End the engine and everything that it started; safe to call twice."""
        if self._keeper.stdin and not self._keeper.stdin.closed:
            self._keeper.stdin.close()
        group = self._engine_group()
        try:
            self._keeper.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        if group is not None and self._keeper.returncode < 0:
            _kill_group(group)
        self._log_reader.close()
        self.lines.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _engine_group(self) -> int | None:
        try:
            return int((self.directory / PID_FILE).read_text())
        except (OSError, ValueError):
            return None


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("http://engine/health", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _kill_group(group: int) -> None:
    """Kill what a killed keeper could not end."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
