"""A fake judge behind HTTP, and endpoint judges that ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.fake_judge import FakeJudge

from integration.endpoint_judge.exchanges import MakeJudge
from workers.judges.endpoint import EndpointJudge
from workers.judges.judge_file import EndpointFile
from workers.judges.reading_cache import ReadingCache
from workers.judges.rubric import Rubric

SMALL_RUBRIC = Rubric.load("default", Path("judge.yaml"))


@pytest.fixture
def fake() -> Iterator[FakeJudge]:
    with FakeJudge() as server:
        yield server


@pytest.fixture
def make_judge(tmp_path: Path) -> MakeJudge:
    """Makes judges that share a cache; what is not given is short of patience."""

    def make(url: str, key: str | None = None, cache: str = "cache", **given: Any) -> EndpointJudge:
        content = {
            "kind": "endpoint",
            "name": "fake",
            "url": url,
            "model": "m",
            "api_key_env": "JUDGE_KEY" if key else None,
            "timeout_seconds": 10,
            "patience_seconds": 20,
            **given,
        }
        file = EndpointFile.model_validate(content)
        return EndpointJudge(file, SMALL_RUBRIC, ReadingCache(tmp_path / cache / "r.db"), key)

    return make
