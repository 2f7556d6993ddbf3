"""How an attempt at a delivery ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Result(StrEnum):
    """How one attempt ended; the label of its metric."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    GONE = "gone"
    UNREACHABLE = "unreachable"
    BLOCKED = "blocked"
    UNCONFIGURED = "unconfigured"
    NOT_YET = "not-yet"


@dataclass(frozen=True)
class Outcome:
    """The end of one attempt. ``retry_after`` is in seconds; ``learnt`` is kept for later."""

    result: Result
    status: int | None = None
    error: str = ""
    retry_after: float | None = None
    learnt: Mapping[str, Any] = field(default_factory=dict)
