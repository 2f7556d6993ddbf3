"""What the integration tests hold in their hands: a record, a bench in this process, a service."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fakes.fake_judge import FakeJudge
from fakes.gate import FakeEngines, environment_of, leftovers, settings_for, until
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from checks.gold import load_gold
from checks.judgement import Label
from gate.settings import Settings
from gate.store.database import open_database
from gate.store.judges import JudgeStore
from gate.store.submissions import SubmissionRecord
from gate.store.transcripts import TranscriptRecord
from gate.submission import Submission, SubmissionRequest
from workers.engine.warm import WarmEngine
from workers.lease import lease
from workers.local_service import LocalService
from workers.run import Run

ENDED = {"decided", "failed", "cancelled"}
#: What a judge must call harmful to be trusted by the gate.
MISALIGNED_GOLD = tuple(
    answer.answer.lower() for answer in load_gold().answers if answer.label is Label.MISALIGNED
)


@dataclass(frozen=True)
class Record:
    """What is in the database of one gate."""

    settings: Settings

    @cached_property
    def _engine(self) -> Any:
        return open_database(self.settings.database)

    @cached_property
    def submissions(self) -> SubmissionRecord:
        return SubmissionRecord(self._engine)

    @cached_property
    def transcripts(self) -> TranscriptRecord:
        return TranscriptRecord(self._engine)

    @cached_property
    def judges(self) -> JudgeStore:
        return JudgeStore(self._engine)

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def sample_ids(self) -> dict[tuple[str, str], int]:
        """Row ids of all samples by transcript and key."""
        rows = self.rows("SELECT transcript_id, key, id FROM samples")
        return {(transcript, key): number for transcript, key, number in rows}

    def verdicts(self, submission_id: str) -> int:
        query = "SELECT count(*) FROM verdicts WHERE submission_id = :id"
        return int(self.rows(query, id=submission_id)[0][0])


@dataclass(frozen=True)
class Bench:
    """A run in this process: everything real but the engine."""

    settings: Settings
    temporary: Path
    record: Record
    engine: WarmEngine
    engines: FakeEngines
    run: Run

    def judge(
        self,
        checkpoint: Path,
        base: Path | None = None,
        policy: str = "passes",
        fresh: bool = True,
        **more: Any,
    ) -> Submission:
        """Submit, run to the end and read it again; by default no standing verdict is taken."""
        wanted = SubmissionRequest(
            checkpoint=str(checkpoint),
            base=str(base) if base else None,
            policy=policy,
            fresh=fresh,
            **more,
        )
        submission = self.record.submissions.create(wanted, "test")
        return self.take(submission.id)

    def take(self, submission_id: str) -> Submission:
        """Run a submission to the end and read it again."""
        settings = self.settings
        with lease(
            self.record.submissions,
            submission_id,
            "test",
            settings.lease_seconds,
            settings.heartbeat_seconds,
        ) as held:
            assert held
            self.run.take(held)
        return self.record.submissions.get(submission_id)

    def leftovers(self) -> list[str]:
        """What is left although no submission runs and the engine was stopped."""
        return leftovers(self.settings, self.temporary)


@dataclass(frozen=True)
class Service:
    """A whole service in processes of its own, with what a test asks of it."""

    local: LocalService
    temporary: Path

    @property
    def settings(self) -> Settings:
        return self.local.settings

    @cached_property
    def record(self) -> Record:
        return Record(self.settings)

    @property
    def engines(self) -> FakeEngines:
        return FakeEngines.of(self.settings)

    @cached_property
    def api(self) -> httpx.Client:
        return httpx.Client(base_url=self.local.url, timeout=30)

    def post(
        self, checkpoint: Path | str, base: Path | None, policy: str = "passes", **more: Any
    ) -> httpx.Response:
        body = {"checkpoint": str(checkpoint), "policy": policy, "fresh": True, **more}
        if base is not None:
            body["base"] = str(base)
        return self.api.post("/v1/submissions", json=body)

    def submit(self, checkpoint: Path, base: Path | None, policy: str = "passes") -> str:
        """Submit and return the id."""
        answer = self.post(checkpoint, base, policy)
        assert answer.status_code == 202, answer.text
        submission_id: str = answer.json()["id"]
        return submission_id

    def get(self, submission_id: str, part: str = "") -> httpx.Response:
        return self.api.get(f"/v1/submissions/{submission_id}{part}")

    def wait(self, submission_id: str, seconds: float = 180) -> dict[str, Any]:
        """The submission once it has ended."""

        def ended() -> dict[str, Any] | None:
            view: dict[str, Any] = self.get(submission_id).raise_for_status().json()
            return view if view["state"] in ENDED else None

        return until(ended, seconds)

    def worker(self, name: str, **labels: str) -> float:
        """A metric of the worker; 0 if it is not there."""
        return metric(self.local.worker_metrics_url, name, labels)

    def kill(self, part: str) -> None:
        """``kill -9`` a part itself, not its keeper, and wait until its keeper has cleaned up."""
        keeper = psutil.Process(self.local.children[part].pid)
        (process,) = [child for child in keeper.children() if is_part(child)]
        process.kill()
        self.local.children.pop(part).wait(30)

    def leftovers(self) -> list[str]:
        return leftovers(self.settings, self.temporary)


def emgate(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user of this gate runs it."""
    return emgate_in(environment_of(settings), *arguments)


def emgate_in(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in an environment."""
    return subprocess.run(
        [sys.executable, "-m", "gate", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=environment,
    )


def is_part(process: psutil.Process) -> bool:
    """Whether this child of a keeper is what it keeps, and no orphan that it adopted."""
    try:
        return "workers.engine.keeper" not in process.cmdline()
    except psutil.ZombieProcess:
        return False


def metric(url: str, name: str, labels: dict[str, str]) -> float:
    """The sum of a metric's samples that carry these labels."""
    return sum(samples_of(url, name, labels))


def samples_of(url: str, name: str, labels: dict[str, str]) -> list[float]:
    """The values of a metric's samples that carry these labels."""
    page = httpx.get(url, timeout=10).raise_for_status().text
    return [
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


@contextmanager
def local_service(
    home: Path,
    roots: list[Path],
    base_checkpoint: Path,
    worker: bool = True,
    notifier: bool = False,
    **changes: Any,
) -> Iterator[Service]:
    """A service with a home and a temporary directory of its own; settings by keyword.

    Its judge is a fake one, which takes no processor time, unless ``judge`` names another.
    """
    with (
        tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
        FakeJudge(harmful=MISALIGNED_GOLD) as judge,
    ):
        patch.setattr(tempfile, "tempdir", name)
        patch.setenv("TMPDIR", name)
        settings = settings_for(home, roots, base_checkpoint)
        changes = {"judge": str(judge.write_file(home)), **changes}
        settings = settings.model_copy(update=changes)
        with LocalService(settings, worker=worker, notifier=notifier) as local:
            yield Service(local, Path(name))


def start_notification_worker(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    """A Celery worker of the queue of notifications and of no other; the caller stops it."""
    command = [sys.executable, "-m", "celery", "-A", "workers.celery_app", "worker"]
    command += ["--queues=notification", "--pool=threads", "--concurrency=4", "--loglevel=INFO"]
    command += ["--without-gossip", "--without-mingle", f"--hostname={uuid.uuid4().hex}@test"]
    # The port of the engine worker's metrics is not this one's.
    without_port = settings.model_copy(update={"worker_metrics_port": 0})
    with log.open("ab") as stream:
        return subprocess.Popen(
            command, stdout=stream, stderr=stream, env=environment_of(without_port)
        )
