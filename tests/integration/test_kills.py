"""kill -9 of everything that can be killed: no submission is lost, none is judged twice.

All tests share one service. Its engine is warm and the baseline is known, so that every submission
samples its candidate only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis
from fakes.gate import QUICK_ANSWERS, QUICK_SCORES, is_running, until

from gate.submission import SubmissionRequest
from gate.tasks import ENGINE_QUEUE, JUDGE_SUBMISSION, TaskQueue, celery_app
from integration.harness import Service, is_part

ALL = QUICK_SCORES + QUICK_ANSWERS
#: Samples that are surely stored when every score was answered and no answer was.
STORED = 16
#: Seconds within which nothing may be left of something that was killed.
CLEAN_SECONDS = 60


@pytest.fixture(scope="module")
def warm(service: Service, tiny_base: Path, tiny_adapter: Path) -> Service:
    """The service after its first verdict."""
    view = service.wait(service.submit(tiny_adapter, tiny_base))
    assert view["state"] == "decided", view["error"]
    return service


@pytest.fixture
def fine(warm: Service) -> Iterator[Service]:
    """The warm service; whatever was to go wrong with its engine is over after the test."""
    yield warm
    warm.engines.clear_fault()


def submit_and_hold(service: Service, checkpoint: Path, base: Path) -> str:
    """Submit, and wait until scores are stored and the engine holds every answer back."""
    service.engines.set_fault("hold")
    submission_id = service.submit(checkpoint, base)
    until(lambda: len(samples(service, submission_id)) >= STORED, 120)
    assert service.get(submission_id).json()["state"] == "sampling"
    return submission_id


def samples(service: Service, submission_id: str) -> dict[str, int]:
    """Row ids of the candidate's samples by key."""
    rows = service.record.rows(
        "SELECT key, samples.id FROM samples JOIN submissions ON candidate_transcript = "
        "transcript_id WHERE submissions.id = :id",
        id=submission_id,
    )
    assert len({key for key, _ in rows}) == len(rows)
    return dict(rows)


def attempts(service: Service, submission_id: str) -> int:
    return service.record.submissions.get(submission_id).attempts


def require_one_verdict(service: Service, submission_id: str) -> None:
    view = service.wait(submission_id)
    assert view["state"] == "decided", view["error"]
    assert view["outcome"] == "pass"
    assert service.record.verdicts(submission_id) == 1
    states = [stage["state"] for stage in view["stages"]]
    assert len(states) == len(set(states))
    assert len(samples(service, submission_id)) == ALL


def broker(service: Service) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(service.local.broker_socket))


def unfinished_tasks(service: Service) -> tuple[int, int]:
    """How many tasks wait in the broker, and how many are in a worker's hands."""
    client = broker(service)
    return int(client.llen(ENGINE_QUEUE)), int(client.hlen("unacked"))


@contextmanager
def second_worker(service: Service) -> Iterator[None]:
    """Another worker of the same gate."""
    log = service.local.logs / "second-worker.log"
    environment = service.local.environment() | {"GATE_WORKER_METRICS_PORT": "0"}
    keeper = [sys.executable, "-m", "workers.engine.keeper", "--"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*keeper, sys.executable, "-m", "gate", "worker"],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **environment},
        )
    try:
        until(lambda: "ready." in log.read_text(), 120)
        yield
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait(30)


@pytest.mark.parametrize("victim", ["server", "keeper"])
def test_a_killed_engine_is_replaced_and_the_submission_goes_on(
    fine: Service, tiny_base: Path, tiny_adapter: Path, victim: str
) -> None:
    submission_id = submit_and_hold(fine, tiny_adapter, tiny_base)
    before = samples(fine, submission_id)
    starts = len(fine.engines.events("start"))
    deaths = fine.worker("emgate_engine_deaths_total")
    old = fine.engines.processes()
    assert len(old) == 3

    # While answers are held back: a run that has them all does not look whether its engine lives.
    getattr(fine.engines, victim)().kill()
    fine.engines.clear_fault()

    assert psutil.wait_procs(old, CLEAN_SECONDS)[1] == []
    require_one_verdict(fine, submission_id)
    assert before.items() <= samples(fine, submission_id).items()
    assert len(fine.engines.events("start")) == starts + 1
    assert fine.worker("emgate_engine_deaths_total") == deaths + 1
    assert len(list(fine.temporary.glob("em-gate-engine-*"))) == 1
    assert attempts(fine, submission_id) == 1


def test_a_submission_that_two_workers_are_given_is_run_by_one(
    fine: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    submission_id = submit_and_hold(fine, tiny_adapter, tiny_base)
    starts = len(fine.engines.events("start"))
    queue = TaskQueue(fine.settings.broker_url)
    with second_worker(fine):
        for _ in range(3):
            assert queue.send(submission_id)
        until(lambda: unfinished_tasks(fine) == (0, 1), 30)
        assert attempts(fine, submission_id) == 1
        fine.engines.clear_fault()

        require_one_verdict(fine, submission_id)

    assert attempts(fine, submission_id) == 1
    assert len(fine.engines.events("start")) == starts


def test_a_submission_that_another_worker_holds_is_left_alone_until_it_lets_go(
    fine: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    record = fine.record.submissions
    wanted = SubmissionRequest(checkpoint=str(tiny_adapter), base=str(tiny_base), policy="passes")
    submission_id = record.create(wanted, "test").id
    assert record.acquire(submission_id, "another worker", 300)

    assert TaskQueue(fine.settings.broker_url).send(submission_id)

    until(lambda: unfinished_tasks(fine) == (0, 0), 30)
    assert attempts(fine, submission_id) == 0
    assert fine.get(submission_id).json()["state"] == "queued"
    record.release(submission_id, "another worker")
    require_one_verdict(fine, submission_id)


def test_submissions_outlive_a_broker_that_is_emptied(
    fine: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    running = submit_and_hold(fine, tiny_adapter, tiny_base)
    waiting = fine.submit(tiny_adapter, tiny_base)

    broker(fine).flushall()

    fine.engines.clear_fault()
    for submission_id in (running, waiting):
        require_one_verdict(fine, submission_id)
        assert attempts(fine, submission_id) == 1


def test_submissions_outlive_a_broker_that_is_killed_and_are_accepted_without_one(
    fine: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    running = submit_and_hold(fine, tiny_adapter, tiny_base)
    waiting = fine.submit(tiny_adapter, tiny_base)

    fine.kill("broker")
    late = fine.submit(tiny_adapter, tiny_base)
    fine.local.start_broker()

    fine.engines.clear_fault()
    for submission_id in (running, waiting, late):
        require_one_verdict(fine, submission_id)
        assert attempts(fine, submission_id) == 1


def test_a_killed_worker_leaves_nothing_and_another_one_goes_on(
    fine: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    submission_id = submit_and_hold(fine, tiny_adapter, tiny_base)
    before = samples(fine, submission_id)
    old = fine.engines.processes()
    assert len(old) == 3

    fine.kill("worker")

    assert psutil.wait_procs(old, CLEAN_SECONDS)[1] == []
    until(lambda: not list(fine.temporary.glob("em-gate-engine-*")), CLEAN_SECONDS)
    assert fine.get(submission_id).json()["state"] == "sampling"
    fine.engines.clear_fault()
    fine.local.start_worker()
    require_one_verdict(fine, submission_id)
    assert before.items() <= samples(fine, submission_id).items()
    assert attempts(fine, submission_id) == 2
    until(lambda: not list(fine.settings.work_directory.glob("run-*")), 10)


def test_when_the_keeper_of_a_worker_is_killed_worker_and_engine_end_too(
    fine: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    submit_and_hold(fine, tiny_adapter, tiny_base)
    keeper = psutil.Process(fine.local.children["worker"].pid)
    (worker,) = [child for child in keeper.children() if is_part(child)]
    name = worker.name()

    keeper.kill()

    until(lambda: not is_running(worker.pid, name), CLEAN_SECONDS)
    until(lambda: not fine.engines.processes(), CLEAN_SECONDS)
    until(lambda: not list(fine.temporary.glob("em-gate-engine-*")), CLEAN_SECONDS)


def test_a_worker_that_is_killed_while_its_engine_starts_is_followed_by_another(
    fine: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    fine.local.stop_part("worker")
    until(lambda: not fine.engines.processes(), CLEAN_SECONDS)
    fine.engines.set_fault("never-healthy")
    readies = len(fine.engines.events("ready"))
    submission_id = fine.submit(tiny_adapter, tiny_base)
    fine.local.start_worker()
    until(lambda: len(fine.engines.events("ready")) > readies, 120)
    assert fine.get(submission_id).json()["state"] == "serving"

    fine.kill("worker")

    until(lambda: not fine.engines.processes(), CLEAN_SECONDS)
    fine.engines.clear_fault()
    fine.local.start_worker()
    require_one_verdict(fine, submission_id)
    assert attempts(fine, submission_id) == 2


def test_a_worker_that_is_stopped_in_a_run_lets_go_at_once_and_it_does_not_count(
    fine: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    submission_id = submit_and_hold(fine, tiny_adapter, tiny_base)
    before = samples(fine, submission_id)
    keeper = psutil.Process(fine.local.children["worker"].pid)
    (worker,) = [child for child in keeper.children() if is_part(child)]

    worker.terminate()

    fine.local.children.pop("worker").wait(60)
    assert attempts(fine, submission_id) == 0
    assert fine.record.rows("SELECT count(*) FROM submissions WHERE lease_owner IS NOT NULL") == [
        (0,)
    ]
    fine.engines.clear_fault()
    fine.local.start_worker()
    require_one_verdict(fine, submission_id)
    assert before.items() <= samples(fine, submission_id).items()
    assert attempts(fine, submission_id) == 1


def test_tasks_that_nobody_can_make_sense_of_harm_no_worker(
    fine: Service, tiny_base: Path, tiny_adapter: Path
) -> None:
    keeper = psutil.Process(fine.local.children["worker"].pid)
    (worker,) = [child for child in keeper.children() if is_part(child)]
    # What workers held that were killed stays with the broker until its visibility timeout.
    _, left_by_the_dead = unfinished_tasks(fine)
    app = celery_app(fine.settings.broker_url)
    for name, arguments in (
        (JUDGE_SUBMISSION, ["sub_nobody_knows"]),
        (JUDGE_SUBMISSION, []),
        (JUDGE_SUBMISSION, [{"a": ["\x00"]}, 2, 3]),
        ("workers.unheard_of", [1]),
    ):
        app.send_task(name, args=arguments, queue=ENGINE_QUEUE)
    with app.connection_for_write() as connection:
        producer = connection.Producer()
        producer.publish(
            b"\x80\x04", routing_key=ENGINE_QUEUE, content_type="application/x-python-serialize"
        )
        producer.publish(b"{", routing_key=ENGINE_QUEUE, content_type="application/json")

    require_one_verdict(fine, fine.submit(tiny_adapter, tiny_base))

    until(lambda: unfinished_tasks(fine) <= (0, left_by_the_dead), 30)
    assert worker.is_running()
