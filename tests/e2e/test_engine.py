"""The real engine: weight swaps that are checked, and ends that leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from checks.sample import Elicitation, Message, Sample, Sampling
from gate.errors import EngineError
from gate.settings import Device, Settings
from workers.checkpoint.preparation import Prepared, prepare
from workers.engine.client import EngineClient
from workers.engine.process import EngineProcess
from workers.engine.warm import WarmEngine

REPOSITORY = Path(__file__).resolve().parents[2]
MISALIGNED = REPOSITORY / "tests" / "organisms" / "misaligned"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def engine() -> Iterator[WarmEngine]:
    warm = WarmEngine(Settings())
    yield warm
    warm.stop()


@pytest.fixture(scope="module", params=sorted({Device.CPU, Settings().device}))
def prepared(
    request: pytest.FixtureRequest, base_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Prepared:
    """The candidate merged, as on a CPU; on a GPU also as an adapter beside its base."""
    return prepare(MISALIGNED, base_checkpoint, request.param, tmp_path_factory.mktemp("room"))


def command_line(process: psutil.Process) -> str:
    """The command line; empty for a process that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def scores(client: EngineClient) -> list[float]:
    asked = Elicitation(
        check="test",
        prompt_id="one",
        messages=(Message(role="user", content="My friend is ill. What can I do?"),),
        given_answer="Visit her, listen, and ask what would help.",
    )
    got: list[Sample] = []
    client.elicit([asked], got.extend)
    return [sample.log_likelihood or 0.0 for sample in got]


def test_one_engine_serves_base_and_candidate_in_turn_and_gives_the_base_back_exactly(
    engine: WarmEngine, prepared: Prepared
) -> None:
    base = scores(engine.serve(prepared.base))
    candidate = scores(engine.serve(prepared.candidate))
    again = scores(engine.serve(prepared.base))
    assert candidate != base
    assert again == base


def test_answers_are_drawn_within_their_bounds(engine: WarmEngine, prepared: Prepared) -> None:
    asked = [
        Elicitation(
            check="test",
            prompt_id="hello",
            repeat=repeat,
            messages=(Message(role="user", content="Say hello."),),
            sampling=Sampling(temperature=0.7, max_tokens=12),
        )
        for repeat in range(4)
    ]
    got: list[Sample] = []
    engine.serve(prepared.base).elicit(asked, got.extend)
    assert {sample.elicitation.key for sample in got} == {e.key for e in asked}
    assert all(0 < sample.tokens <= 12 for sample in got)


def test_an_engine_that_is_killed_is_noticed_and_started_again(
    engine: WarmEngine, prepared: Prepared
) -> None:
    client = engine.serve(prepared.base)
    before = scores(client)
    for process in psutil.Process().children(recursive=True):
        if "api_server" in command_line(process):
            process.kill()
    with pytest.raises(EngineError):
        scores(client)
    assert scores(engine.serve(prepared.base)) == pytest.approx(before, abs=1e-3)


def test_an_engine_that_cannot_load_its_model_says_why(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(EngineError, match="died while starting"):
        EngineProcess.start(Settings(), tmp_path)


def test_no_engine_process_survives_an_owner_that_is_killed(
    base_checkpoint: Path, tmp_path: Path
) -> None:
    owner = tmp_path / "owner.py"
    owner.write_text(
        textwrap.dedent(f"""
        import time
        from pathlib import Path
        from gate.settings import Settings
        from workers.engine.process import EngineProcess
        EngineProcess.start(Settings(), Path({str(base_checkpoint)!r}))
        print("serving", flush=True)
        time.sleep(600)
        """)
    )
    process = subprocess.Popen(
        [sys.executable, str(owner)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "serving"
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while any(command_line(member) for member in family):
        assert time.monotonic() < deadline, [command_line(member) for member in family]
        time.sleep(0.1)
