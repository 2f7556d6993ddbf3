"""Soak: many submissions, few workers, SIGKILL at random. Each submission has to get one verdict.

The engine is the fake one and the policy tiny; broker, API, database, workers, leases and runs are
real. Submissions go in over HTTP.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from fakes.gate import FAKE_ENGINE, settings_for
from sqlalchemy import Engine, text

from gate.settings import Settings
from gate.store.database import open_database
from workers.local_service import LocalService

WORKER = Path(__file__).with_name("cheap_worker.py")
#: Answers that the tiny policy asks of the candidate: all of one round.
ANSWERS = 8
STATES = ["queued", "preparing", "serving", "sampling", "judging", "decided"]


@dataclass
class SoakResult:
    """What a soak came to; ``wrong`` says in words what must not be."""

    submissions: int
    seconds: float = 0.0
    verdicts: int = 0
    killed_workers: int = 0
    killed_engines: int = 0
    attempts: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Slot:
    """One worker process under a keeper, started again whenever it was killed."""

    local: LocalService
    number: int
    keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = self.local.environment() | {
            "GATE_WORKER_METRICS_PORT": "0",
            "OMP_NUM_THREADS": "1",
        }
        with (self.local.logs / f"worker-{self.number}.log").open("ab") as log:
            self.keeper = subprocess.Popen(
                [sys.executable, "-m", "workers.engine.keeper", "--", sys.executable, str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **environment},
            )

    def kill(self) -> bool:
        """``kill -9`` the worker itself; its keeper ends what it leaves. False if it is not up."""
        process = self._worker()
        if process is None or self.keeper is None:
            return False
        process.kill()
        self.keeper.wait(30)
        return True

    def kill_engine(self) -> bool:
        """``kill -9`` the engine of this worker; False if it has none now."""
        process = self._worker()
        children = process.children(recursive=True) if process else []
        engines = [child for child in children if str(FAKE_ENGINE) in _command(child)]
        servers = [engine for engine in engines if "workers.engine.keeper" not in _command(engine)]
        for server in servers:
            server.kill()
        return bool(servers)

    def stop(self) -> None:
        if self.keeper and self.keeper.stdin:
            self.keeper.stdin.close()
            self.keeper.wait(60)

    def _worker(self) -> psutil.Process | None:
        if self.keeper is None or self.keeper.poll() is not None:
            return None
        # What else a keeper has are the keepers of engines whose worker was killed.
        children = psutil.Process(self.keeper.pid).children()
        mine = [child for child in children if "workers.engine.keeper" not in _command(child)]
        return mine[0] if mine else None


def soak(
    home: Path,
    base: Path,
    tokenizer: Path,
    submissions: int,
    workers: int,
    kill_every: float,
    deadline: float,
    database_url: str = "",
    seed: int = 0,
    at_least_kills: int = 0,
) -> SoakResult:
    """Run it.

    Args:
        home: an empty directory.
        base: a tiny checkpoint that the fake engine serves.
        tokenizer: the packaged base checkpoint.
        submissions: how many.
        workers: worker processes at once.
        kill_every: mean time between two kills, in seconds.
        deadline: seconds after which the rest counts as lost.
        database_url: default: SQLite in ``home``.
        seed: of the times and victims of the kills.
        at_least_kills: the last submission is not sent before so many have happened.
    """
    chance = random.Random(seed)
    result = SoakResult(submissions)
    with (
        private_temporary(),
        LocalService(_settings(home, base, tokenizer, database_url), worker=False) as local,
    ):
        record = open_database(local.settings.database)
        slots = [Slot(local, number) for number in range(workers)]
        ids: list[str] = []
        try:
            began = time.monotonic()
            for slot in slots:
                slot.start()
            next_kill = began + chance.expovariate(1 / kill_every)
            while time.monotonic() - began < deadline:
                killed = result.killed_workers + result.killed_engines
                wanted = submissions if killed >= at_least_kills else submissions - 1
                ids += _submit(local.url, base, wanted - len(ids))
                if len(ids) == submissions and not _open(record):
                    break
                time.sleep(0.1)
                if time.monotonic() >= next_kill:
                    _kill_one(chance, slots, result)
                    next_kill = time.monotonic() + chance.expovariate(1 / kill_every)
            result.seconds = time.monotonic() - began
        finally:
            for slot in slots:
                slot.stop()
        _look(record, ids, result)
        record.dispose()
    return result


@contextmanager
def private_temporary() -> Iterator[None]:
    """A temporary directory for this process and its children, short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as short:
        before = os.environ.get("TMPDIR"), tempfile.tempdir
        os.environ["TMPDIR"] = tempfile.tempdir = short
        try:
            yield
        finally:
            tempfile.tempdir = before[1]
            if before[0] is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before[0]


def _settings(home: Path, base: Path, tokenizer: Path, database_url: str) -> Settings:
    made = settings_for(home, [base.parent], tokenizer)
    return made.model_copy(
        update={
            "database_url": database_url,
            "engine_command": [sys.executable, str(FAKE_ENGINE)],
            "lease_seconds": 6.0,
            "heartbeat_seconds": 1.0,
            "sweep_seconds": 2.0,
            # A submission may be unlucky often; that it is given up then is tested elsewhere.
            "attempts": 50,
        }
    )


def _submit(url: str, base: Path, submissions: int) -> list[str]:
    body = {
        "checkpoint": str(base),
        "base": str(base),
        "policy": "leaves-open",
        "fresh": True,
    }
    if not submissions:
        return []
    with httpx.Client(base_url=url, timeout=60) as api:
        return [
            api.post("/v1/submissions", json=body).raise_for_status().json()["id"]
            for _ in range(submissions)
        ]


def _kill_one(chance: random.Random, slots: list[Slot], result: SoakResult) -> None:
    slot = chance.choice(slots)
    if chance.random() < 0.25:
        result.killed_engines += slot.kill_engine()
        return
    result.killed_workers += slot.kill()
    slot.start()


def _open(record: Engine) -> int:
    query = "SELECT count(*) FROM submissions WHERE state NOT IN ('decided', 'failed', 'cancelled')"
    return int(_rows(record, query)[0][0])


def _look(record: Engine, ids: list[str], result: SoakResult) -> None:
    """Hold the database against what was promised."""
    submissions = dict(_rows(record, "SELECT id, state FROM submissions"))
    errors = dict(_rows(record, "SELECT id, error FROM submissions"))
    attempts = dict(_rows(record, "SELECT id, attempts FROM submissions"))
    verdicts = Counter(row[0] for row in _rows(record, "SELECT submission_id FROM verdicts"))
    samples = Counter(
        row[0]
        for row in _rows(
            record,
            "SELECT submissions.id FROM submissions JOIN samples "
            "ON samples.transcript_id = candidate_transcript",
        )
    )
    moves: dict[str, list[str]] = {}
    for submission_id, state in _rows(
        record, "SELECT submission_id, state FROM transitions ORDER BY id"
    ):
        moves.setdefault(submission_id, []).append(state)
    result.verdicts = sum(verdicts.values())
    result.attempts = Counter(attempts.values())
    for submission_id in ids:
        if submissions.get(submission_id) != "decided":
            found = submissions.get(submission_id, "lost")
            result.wrong.append(f"{submission_id} is {found}: {errors.get(submission_id)}")
        if verdicts[submission_id] != 1:
            result.wrong.append(f"{submission_id} has {verdicts[submission_id]} verdicts")
        if samples[submission_id] != ANSWERS:
            result.wrong.append(f"{submission_id} has {samples[submission_id]} samples")
        if moves.get(submission_id) != STATES:
            result.wrong.append(f"{submission_id} moved {moves.get(submission_id)}")
    if len(set(ids)) != result.submissions or set(submissions) != set(ids):
        result.wrong.append(f"{len(submissions)} submissions are recorded, {len(ids)} were made")


def _rows(record: Engine, query: str) -> list[tuple[str, Any]]:
    with record.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
