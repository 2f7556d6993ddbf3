"""Fixtures that start real parts of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fakes.gate import FakeEngines
from postgresql import PostgreSQL, postgresql
from unit.checkpoints import write_model

from checks.judgement import Exchange, Judge, Judgement
from gate.settings import Settings
from integration.harness import Bench, Record, Service, local_service
from workers.engine.warm import WarmEngine
from workers.judges.choice import load_embedded_judge
from workers.run import Run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session", autouse=True)
def _one_thread_each() -> Iterator[None]:
    """Several processes compute at once here; threads that wait by spinning would starve them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint's files, to be put into a store."""
    return write_model(tmp_path_factory.mktemp("store") / "model")


class Remembering:
    """The embedded judge, which rates the same exchange the same, asked only once for each."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.name, self.digest = judge.name, judge.digest
        self._known: dict[Exchange, Judgement] = {}

    def judge(self, exchanges: Sequence[Exchange], fresh: bool = False) -> list[Judgement]:
        new = [exchange for exchange in dict.fromkeys(exchanges) if exchange not in self._known]
        self._known.update(zip(new, self._judge.judge(new, fresh), strict=True))
        return [self._known[exchange] for exchange in exchanges]


@pytest.fixture(scope="session")
def judge(base_checkpoint: Path) -> Judge:
    """The real embedded judge, loaded once into this process."""
    return Remembering(load_embedded_judge(Settings(home=base_checkpoint.parent.parent)))


@pytest.fixture
def make_bench(
    isolated_settings: Settings, short_tmp: Path, judge: Judge
) -> Iterator[Callable[..., Bench]]:
    """Makes a bench; settings may be changed by keyword."""
    with ExitStack() as stack:

        def make(**changes: Any) -> Bench:
            settings = isolated_settings.model_copy(update=changes)
            record, engine = Record(settings), WarmEngine(settings)
            stack.callback(engine.stop)
            run = Run(
                settings,
                record.submissions,
                record.transcripts,
                record.judges,
                engine,
                lambda: judge,
            )
            return Bench(settings, short_tmp, record, engine, FakeEngines.of(settings), run)

        yield make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, checkpoint_root: Path, base_checkpoint: Path
) -> Iterator[Service]:
    """One service for all tests of a module."""
    home = tmp_path_factory.mktemp("service")
    with local_service(home, [checkpoint_root], base_checkpoint) as started:
        yield started


@pytest.fixture
def fresh_service(
    tmp_path: Path, checkpoint_root: Path, base_checkpoint: Path
) -> Iterator[Callable[..., Service]]:
    """Starts a service for one test."""
    with ExitStack() as stack:

        def start(worker: bool = True) -> Service:
            return stack.enter_context(
                local_service(tmp_path / "home", [checkpoint_root], base_checkpoint, worker)
            )

        yield start


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    """A real PostgreSQL, started once."""
    with postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that is empty, on each of both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'record.db'}"
    server: PostgreSQL = request.getfixturevalue("postgres")
    return server.new_database()
