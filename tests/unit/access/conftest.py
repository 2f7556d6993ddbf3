"""Doors to an API of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.access.door import Door

from gate.settings import Settings


@pytest.fixture
def open_door(tmp_path: Path) -> Callable[..., Door]:
    (tmp_path / "root" / "model").mkdir(parents=True)

    def build(**changes: Any) -> Door:
        # A broker that no one reaches: limits and queue do without.
        settings = Settings(
            home=tmp_path / "home",
            broker_url="redis+socket:///nonexistent/socket",
            checkpoint_roots=[tmp_path / "root"],
            **changes,
        )
        return Door(settings)

    return build


@pytest.fixture
def door(open_door: Callable[..., Door]) -> Door:
    return open_door()
