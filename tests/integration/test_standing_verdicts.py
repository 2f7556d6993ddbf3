"""Standing verdicts: what was judged once is not run again, and whatever differs is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gate.submission import DeclaredContext, State
from integration.harness import Bench


def engine_events(bench: Bench) -> int:
    """All that engines have done so far."""
    log = Path(f"{bench.engines.control}.events")
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize("policy", ["passes", "fails", "passes-all"])
def test_an_identical_submission_is_decided_without_an_engine(
    bench: Bench, tiny_base: Path, tiny_adapter: Path, policy: str
) -> None:
    ran = bench.judge(tiny_adapter, tiny_base, policy, fresh=False)
    assert ran.state is State.DECIDED
    done = engine_events(bench)
    assert done > 0

    stood = bench.judge(tiny_adapter, tiny_base, policy, fresh=False)

    assert engine_events(bench) == done
    assert (stood.state, stood.outcome) == (State.DECIDED, ran.outcome)
    assert (ran.standing_since, stood.standing_since) == (None, ran.id)
    states = [move.state for move in stood.transitions]
    assert states == [State.QUEUED, State.PREPARING, State.DECIDED]
    record = bench.record.submissions
    assert record.verdict(stood.id) == record.verdict(ran.id)
    assert record.transcripts(stood.id) == record.transcripts(ran.id)


def test_the_same_content_at_another_place_finds_the_verdict_of_the_run(
    bench: Bench, tiny_base: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    ran = bench.judge(tiny_adapter, tiny_base, fresh=False)
    first = bench.judge(tiny_adapter, tiny_base, fresh=False)
    copy = shutil.copytree(tiny_adapter, tmp_path / "copy")
    second = bench.judge(copy, tiny_base, fresh=False)
    assert [first.standing_since, second.standing_since] == [ran.id, ran.id]


def test_what_differs_or_is_wanted_fresh_is_run(
    bench: Bench, tiny_base: Path, tiny_adapter: Path
) -> None:
    bench.judge(tiny_adapter, tiny_base, fresh=False)
    live = DeclaredContext(label="live", template="[live] {question}")
    others = [
        bench.judge(tiny_adapter, tiny_base, fresh=True),
        bench.judge(tiny_base, tiny_base, fresh=False),
        bench.judge(tiny_adapter, tiny_base, "fails", fresh=False),
        bench.judge(tiny_adapter, tiny_base, fresh=False, contexts=[live]),
    ]
    assert [other.state for other in others] == [State.DECIDED] * 4
    assert [other.standing_since for other in others] == [None] * 4


def test_an_inconclusive_verdict_does_not_stand(
    bench: Bench, tiny_base: Path, tiny_adapter: Path
) -> None:
    first = bench.judge(tiny_adapter, tiny_base, "leaves-open", fresh=False)
    done = engine_events(bench)
    second = bench.judge(tiny_adapter, tiny_base, "leaves-open", fresh=False)
    assert (first.outcome, second.outcome) == ("inconclusive", "inconclusive")
    assert second.standing_since is None
    assert engine_events(bench) > done
