"""The doctor's probes on installations that are broken in one way each."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gate.errors import GateError
from gate.settings import Device, Judging, Settings
from gate.store.database import open_database
from workers.probes import machine, parts, service
from workers.probes.finding import Finding, Health
from workers.probes.machine import GIB
from workers.supervisor import RESTARTS, WINDOW_SECONDS, Supervisor


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", engine_command=["/bin/true"])


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def on_a_queue(settings: Settings) -> Settings:
    return settings.model_copy(update={"judging": Judging.QUEUE})


def old_record(settings: Settings) -> Finding:
    settings.home.mkdir()
    connection = sqlite3.connect(settings.home / "gate.db")
    connection.execute("CREATE TABLE submissions (id TEXT)")
    connection.close()
    return service.database(settings)


def cpu(tmp_path: Path, flags: str) -> Finding:
    (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags}\n")
    on_cpu = Settings(home=tmp_path, device=Device.CPU)
    return machine.processor(on_cpu, tmp_path / "cpuinfo")


@pytest.mark.parametrize(
    ("probe", "health", "says"),
    [
        (lambda s: machine.python((3, 10)), Health.FAIL, "3.10"),
        (lambda s: machine.python((3, 12)), Health.OK, "3.12"),
        (lambda s: machine.memory(s, GIB), Health.WARN, "1.0 GiB"),
        (lambda s: machine.disk(s, 5), Health.FAIL, "0.0 GiB"),
        (lambda s: machine.disk(s, 2 * GIB), Health.WARN, "2.0 GiB"),
        (lambda s: machine.shared_memory(64 * 1024**2), Health.WARN, "0.06 GiB"),
        (lambda s: machine.shared_memory(place=s.home / "none"), Health.WARN, "there is no"),
        (old_record, Health.FAIL, "tables of em-gate but no version"),
        (service.database, Health.OK, "made on first use"),
        (lambda s: service.worker(s, reached=False), Health.FAIL, "without the broker"),
        (parts.judge, Health.OK, "embedded"),
        (lambda s: service.judging(s, reached=True), Health.OK, "in the run"),
        (
            lambda s: service.judging(on_a_queue(s), reached=False),
            Health.FAIL,
            "without the broker",
        ),
        (parts.policies, Health.OK, "default"),
        (lambda s: cpu(s.home.parent, "avx2"), Health.WARN, "AVX2"),
        (lambda s: cpu(s.home.parent, "avx512f"), Health.OK, "AVX-512"),
        (lambda s: cpu(s.home.parent, "sse"), Health.FAIL, "neither"),
        (parts.engine, Health.OK, "replaced by /bin/true"),
    ],
)
def test_a_probe_says_how_its_part_is(
    settings: Settings, probe: Callable[[Settings], Finding], health: Health, says: str
) -> None:
    found = probe(settings)
    assert (found.health, says in found.found) == (health, True), found
    assert bool(found.remedy) == (health is not Health.OK)


def test_a_missing_engine_program_is_named(tmp_path: Path) -> None:
    found = parts.engine(Settings(home=tmp_path, engine_command=["/no/such"]))
    assert found.health is Health.FAIL
    assert "/no/such" in found.found


def test_a_current_record_is_well(settings: Settings) -> None:
    open_database(settings.database).dispose()
    assert service.database(settings).health is Health.OK


def test_asking_for_the_record_makes_none(settings: Settings) -> None:
    service.database(settings)
    assert not settings.home.exists()


def test_what_nobody_listens_on_is_a_fail(tmp_path: Path) -> None:
    port = closed_port()
    dead = Settings(home=tmp_path, broker_url=f"redis://:secret@127.0.0.1:{port}/0")
    broker, (api, when) = service.broker(dead), service.api(f"http://127.0.0.1:{port}")
    assert (broker.health, api.health, when) == (Health.FAIL, Health.FAIL, None)
    assert "secret" not in broker.found


def test_a_policy_or_a_judge_file_that_is_wrong_is_a_fail(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\n")
    wrong = Settings(
        home=tmp_path, policy_directories=[tmp_path], judge=str(tmp_path / "none.yaml")
    )
    assert parts.policies(wrong).health is Health.FAIL
    assert parts.judge(wrong).health is Health.FAIL


def test_the_key_of_a_judge_is_asked_for_only_where_the_judge_is_asked(tmp_path: Path) -> None:
    content = "kind: endpoint\nname: house\nurl: http://h/v1\nmodel: m\napi_key_env: HOUSE_KEY\n"
    (tmp_path / "judge.yaml").write_text(content)
    here = Settings(home=tmp_path, judge=str(tmp_path / "judge.yaml"))
    assert parts.judge(here, {}).found == "HOUSE_KEY is not set"
    assert parts.judge(here, {"HOUSE_KEY": "k"}).health is Health.OK
    assert parts.judge(on_a_queue(here), {}).health is Health.OK
    assert parts.judge_here(on_a_queue(here), {}).health is Health.FAIL


@pytest.mark.parametrize(("off", "health"), [(5, Health.OK), (90, Health.WARN)])
def test_a_clock_that_is_off_is_seen(off: int, health: Health) -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    assert service.clock(now - timedelta(seconds=off), now).health is health


class DyingParts:
    def __init__(self) -> None:
        self.started: list[str] = []

    def dead(self) -> list[str]:
        return ["worker"]

    def start(self, name: str) -> None:
        self.started.append(name)


def test_a_part_that_died_is_started_and_given_up_when_it_dies_too_often() -> None:
    parts, said = DyingParts(), list[str]()
    supervisor = Supervisor(parts, said.append, clock=lambda: 0.0)
    for _ in range(RESTARTS):
        supervisor.look()
    assert parts.started == ["worker"] * RESTARTS
    assert len(said) == RESTARTS
    with pytest.raises(GateError, match="the worker died 6 times"):
        supervisor.look()


def test_deaths_long_ago_are_forgotten() -> None:
    times = iter(n * WINDOW_SECONDS for n in range(100))
    parts = DyingParts()
    supervisor = Supervisor(parts, lambda _: None, clock=lambda: next(times))
    for _ in range(RESTARTS * 3):
        supervisor.look()
    assert len(parts.started) == RESTARTS * 3
