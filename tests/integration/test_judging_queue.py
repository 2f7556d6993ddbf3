"""Judging on a queue of its own, with everything real but the engine and the judging model.

All tests share one service: a worker of runs that has no key of the judge, and a judging worker
that has it. Every submission samples its candidate only, but for the first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes.fake_judge import FakeJudge
from fakes.gate import settings_for, until

from gate.settings import Judging
from gate.verdict import Verdict
from integration.harness import Bench, Service, metric
from workers.judges.choice import load_judge
from workers.local_service import LocalService
from workers.probes.finding import Health
from workers.probes.service import judging as probe_judging
from workers.run import Run

KEY = "sk-only-the-judging-worker-has-it"
#: What a run waits for a judging worker here, and a postponed submission for its judge.
WAIT_SECONDS, POSTPONED_SECONDS = 5.0, 1.0


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeJudge]:
    with FakeJudge(key=KEY) as server:
        yield server


@pytest.fixture(scope="module")
def shared(
    fake: FakeJudge,
    tmp_path_factory: pytest.TempPathFactory,
    checkpoint_root: Path,
    base_checkpoint: Path,
) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("judging")
    with (
        tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(tempfile, "tempdir", name)
        patch.setenv("TMPDIR", name)
        patch.setenv("JUDGE_KEY", KEY)
        settings = settings_for(home, [checkpoint_root], base_checkpoint).model_copy(
            update={
                "judge": str(judge_file(home / "judge.yaml", fake.url, "m")),
                "judging": Judging.QUEUE,
                "judging_wait_seconds": WAIT_SECONDS,
                "judge_wait_seconds": POSTPONED_SECONDS,
                "lease_seconds": 3.0,
                "heartbeat_seconds": 0.5,
                "sweep_seconds": 1.0,
            }
        )
        with LocalService(settings) as local:
            yield Service(local, Path(name))


@pytest.fixture
def service(shared: Service, fake: FakeJudge) -> Iterator[Service]:
    """The service; whatever was to go wrong is over after the test."""
    yield shared
    fake.clear_fault()
    if "judging" not in shared.local.children:
        shared.local.start_judging()


def judge_file(path: Path, url: str, model: str) -> Path:
    content = {
        "kind": "endpoint",
        "name": f"judge-{model}",
        "url": url,
        "model": model,
        "api_key_env": "JUDGE_KEY",
        "patience_seconds": 1,
    }
    path.write_text(json.dumps(content))
    return path


def require_one_verdict(service: Service, submission_id: str) -> dict[str, Any]:
    """Decided once, and no state passed twice."""
    view = service.wait(submission_id)
    assert view["state"] == "decided", view["error"]
    assert service.record.verdicts(submission_id) == 1
    states = [stage["state"] for stage in view["stages"]]
    assert len(states) == len(set(states))
    return view


def environment_of_part(service: Service, name: str) -> dict[str, str]:
    """What a part inherits from its keeper; Celery writes its process title over its own."""
    return psutil.Process(service.local.children[name].pid).environ()


def ratings(service: Service) -> dict[int, int]:
    """Row ids of the judgements by the answer that they are of: one of each."""
    rows = service.record.rows("SELECT sample_id, id FROM judgements")
    assert len({sample for sample, _ in rows}) == len(rows)
    return dict(rows)


def postponements(service: Service, submission_id: str) -> int:
    return service.record.submissions.get(submission_id).postponements


def verdict(service: Service, submission_id: str) -> Verdict:
    found = service.record.submissions.verdict(submission_id)
    assert found is not None
    return found


def test_a_verdict_over_the_queue_is_that_of_a_run_and_only_one_worker_has_the_key(
    service: Service, bench: Bench, tiny_base: Path, tiny_adapter: Path, monkeypatch: Any
) -> None:
    for name in ("worker", "api"):
        assert "JUDGE_KEY" not in environment_of_part(service, name)
    assert environment_of_part(service, "judging")["JUDGE_KEY"] == KEY
    assert probe_judging(service.settings, reached=True).health is Health.OK

    submission_id = service.submit(tiny_adapter, tiny_base, "passes-all")
    require_one_verdict(service, submission_id)

    monkeypatch.setenv("JUDGE_KEY", KEY)
    in_the_run = bench.settings.model_copy(update={"judge": service.settings.judge})
    run = Run(
        in_the_run,
        bench.record.submissions,
        bench.record.transcripts,
        bench.record.judges,
        bench.engine,
        lambda: load_judge(in_the_run),
    )
    alone = Bench(in_the_run, bench.temporary, bench.record, bench.engine, bench.engines, run)
    expected = alone.record.submissions.verdict(
        alone.judge(tiny_adapter, tiny_base, "passes-all").id
    )
    assert expected is not None
    got = verdict(service, submission_id)
    assert got.outcome == expected.outcome
    assert got.digests.judge == expected.digests.judge
    assert got.findings == expected.findings
    assert got.judge is not None
    assert expected.judge is not None
    assert got.judge.calibration == expected.judge.calibration
    assert got.judge.controls_given == expected.judge.controls_given > 0
    url = service.local.metrics_url("judging")
    assert metric(url, "emgate_judge_tokens_total", {"judge": "judge-m"}) > 0
    assert service.worker("emgate_judge_tokens_total") == 0


@pytest.mark.parametrize("victim", ["judging", "broker"])
def test_what_is_killed_while_answers_are_rated_costs_time_and_nothing_else(
    service: Service, fake: FakeJudge, tiny_base: Path, tiny_adapter: Path, victim: str
) -> None:
    fake.set_fault("slow", seconds=0.4)
    asked = len(fake.requests)
    submission_id = service.submit(tiny_adapter, tiny_base, "passes-all")
    until(lambda: len(fake.requests) > asked, 120)
    before = ratings(service)

    service.kill(victim)

    fake.clear_fault()
    getattr(service.local, f"start_{victim}")()
    require_one_verdict(service, submission_id)
    assert before.items() <= ratings(service).items()
    assert service.record.submissions.get(submission_id).attempts == 1


def test_a_submission_waits_for_a_judge_that_is_down_and_comes_back(
    service: Service, fake: FakeJudge, tiny_base: Path, tiny_adapter: Path
) -> None:
    fake.stop()
    try:
        submission_id = service.submit(tiny_adapter, tiny_base, "passes-all")
        until(lambda: postponements(service, submission_id), 120)
        said = service.get(submission_id).json()["progress"]["what"]
    finally:
        fake.start()
    assert said.startswith("waiting for the judge")
    assert "cannot be reached" in said
    require_one_verdict(service, submission_id)


def test_without_a_judging_worker_it_waits_and_says_which_one_to_start(
    service: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    service.local.stop_part("judging")
    found = probe_judging(service.settings, reached=True)
    assert (found.health, found.remedy) == (
        Health.FAIL,
        "start one: emgate worker --queues judging",
    )
    cancelled = service.submit(tiny_adapter, tiny_base, "passes-all")
    asked = ("judgements", "gold answers, to calibrate the judge")
    until(lambda: progress(service, cancelled) in asked, 120)
    assert service.api.post(f"/v1/submissions/{cancelled}/cancel").is_success
    submission_id = service.submit(tiny_adapter, tiny_base, "passes-all")
    until(lambda: postponements(service, submission_id), 120)
    assert "emgate worker --queues judging" in progress(service, submission_id)
    (ended,) = service.record.submissions.past_attempts(cancelled)
    assert ended.endswith("stopped because it is cancelled")

    service.local.start_judging()

    require_one_verdict(service, submission_id)
    assert service.get(cancelled).json()["state"] == "cancelled"


def progress(service: Service, submission_id: str) -> str:
    found = service.get(submission_id).json()["progress"]
    return str(found["what"]) if found else ""


def test_a_judging_worker_with_another_judge_fails_the_submission_and_names_both(
    service: Service, fake: FakeJudge, tmp_path: Path, tiny_base: Path, tiny_adapter: Path
) -> None:
    service.local.stop_part("judging")
    other = judge_file(tmp_path / "other.yaml", fake.url, "cheap")
    # It does without the database, too.
    nowhere = "postgresql://nobody@nowhere.invalid/none"
    with judging_worker(service, GATE_JUDGE=str(other), GATE_DATABASE_URL=nowhere):
        view = service.wait(service.submit(tiny_adapter, tiny_base, "passes-all"))
    assert view["state"] == "failed"
    assert "has judge 'judge-cheap' (sha256:" in view["error"]
    assert "this run needs 'judge-m' (sha256:" in view["error"]


def test_a_judging_worker_without_its_key_does_not_start(service: Service) -> None:
    environment = {**os.environ, **service.local.environment(), "JUDGE_KEY": ""}
    done = subprocess.run(
        [sys.executable, "-m", "gate", "worker", "--queues", "judging"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "JUDGE_KEY is not set" in done.stderr


@contextmanager
def judging_worker(service: Service, **variables: str) -> Iterator[None]:
    """A judging worker with other settings than those of the service."""
    log = service.local.logs / "other-judging.log"
    environment = service.local.environment() | {"GATE_WORKER_METRICS_PORT": "0"} | variables
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "gate", "worker", "--queues", "judging"],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    try:
        until(lambda: "ready." in log.read_text(), 120)
        yield
    finally:
        process.terminate()
        process.wait(30)
