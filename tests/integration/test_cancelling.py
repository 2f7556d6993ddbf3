"""Cancelling, losing the lease, and giving up: the run stops at once and says why."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes.gate import QUICK_SCORES, until
from sqlalchemy import text

from gate.store.database import open_database
from gate.submission import State, SubmissionRequest
from integration.harness import Bench


@pytest.fixture
def quick(make_bench: Callable[..., Bench]) -> Bench:
    """A bench whose runs look every tenth of a second whether they are still wanted."""
    return make_bench(heartbeat_seconds=0.1, engine_request_seconds=600)


def submitted(bench: Bench, checkpoint: Path, base: Path) -> str:
    wanted = SubmissionRequest(checkpoint=str(checkpoint), base=str(base), policy="passes")
    return bench.record.submissions.create(wanted, "test").id


def test_cancelling_drops_the_requests_in_flight_and_the_engine_stays_good(
    quick: Bench, tiny_base: Path, tiny_adapter: Path
) -> None:
    submission_id = submitted(quick, tiny_adapter, tiny_base)
    quick.engines.set_fault("hold")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(quick.take, submission_id)
        until(lambda: len(quick.record.sample_ids()) >= 16, 120)
        assert not running.done()

        quick.record.submissions.move(submission_id, State.CANCELLED)
        # The engine still holds every answer back, for as long as a request may take.
        ended = running.result(30)

    assert ended.state is State.CANCELLED
    assert quick.record.verdicts(submission_id) == 0
    quick.engines.clear_fault()
    starts = len(quick.engines.events("start"))
    decided = quick.judge(tiny_adapter, tiny_base)
    assert decided.state is State.DECIDED, decided.error
    assert len(quick.engines.events("start")) == starts


def test_cancelling_stops_an_engine_that_is_starting(
    quick: Bench, tiny_base: Path, tiny_adapter: Path
) -> None:
    submission_id = submitted(quick, tiny_adapter, tiny_base)
    quick.engines.set_fault("never-healthy")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(quick.take, submission_id)
        until(lambda: quick.engines.events("ready"), 120)
        quick.record.submissions.move(submission_id, State.CANCELLED)
        ended = running.result(30)

    assert ended.state is State.CANCELLED
    assert quick.record.sample_ids() == {}
    until(lambda: not quick.leftovers(), 15)


def test_a_run_that_has_lost_its_lease_writes_nothing_more(
    quick: Bench, tiny_base: Path, tiny_adapter: Path
) -> None:
    submission_id = submitted(quick, tiny_adapter, tiny_base)
    quick.engines.set_fault("hold")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(quick.take, submission_id)
        until(lambda: len(quick.record.sample_ids()) >= 16, 120)
        with open_database(quick.settings.database).begin() as connection:
            connection.execute(text("UPDATE submissions SET lease_owner = 'another worker'"))
        before = quick.record.sample_ids()
        quick.engines.clear_fault()
        left = running.result(60)

    assert left.state is State.SAMPLING
    assert quick.record.sample_ids() == before
    assert quick.record.verdicts(submission_id) == 0


def test_an_engine_that_is_killed_while_starting_is_started_again(
    quick: Bench, tiny_base: Path, tiny_adapter: Path
) -> None:
    submission_id = submitted(quick, tiny_adapter, tiny_base)
    quick.engines.set_fault("never-healthy")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(quick.take, submission_id)
        until(lambda: quick.engines.events("ready"), 120)
        quick.engines.clear_fault()
        quick.engines.server().kill()
        ended = running.result(120)

    assert ended.state is State.DECIDED, ended.error
    assert quick.record.verdicts(submission_id) == 1


def test_what_is_given_up_says_what_became_of_each_attempt(
    make_bench: Callable[..., Bench], tiny_base: Path, tiny_adapter: Path
) -> None:
    bench = make_bench(attempts=2)
    submission_id = submitted(bench, tiny_adapter, tiny_base)
    record = bench.record.submissions
    record.begin_attempt(submission_id, "host-a:1")
    record.move(submission_id, State.SERVING)
    record.begin_attempt(submission_id, "host-b:2")

    ended = bench.take(submission_id)

    assert ended.state is State.FAILED
    assert ended.error == (
        "given up after 2 attempts, each of which was interrupted; "
        "1: host-a:1 vanished without a word while serving; "
        "2: host-b:2 vanished without a word while serving"
    )
    assert bench.engines.events("start") == []


def test_a_database_that_is_locked_for_a_while_costs_nothing(
    quick: Bench, tiny_base: Path, tiny_adapter: Path
) -> None:
    submission_id = submitted(quick, tiny_adapter, tiny_base)
    quick.engines.set_fault("hold", after=4)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(quick.take, submission_id)
        until(lambda: len(quick.record.sample_ids()) >= QUICK_SCORES // 2, 120)
        with open_database(quick.settings.database).connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            quick.engines.clear_fault()
            until(lambda: len(quick.engines.events("answer")) >= 4, 60)
            connection.exec_driver_sql("ROLLBACK")
        ended = running.result(120)

    assert ended.state is State.DECIDED, ended.error
    assert ended.attempts == 1
