"""What the client reads of the API's answers; fields that it does not know are left alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

ENDED = frozenset({"decided", "failed", "cancelled"})


class Progress(BaseModel):
    """How far the current stage is, in its own units."""

    done: int = Field(ge=0)
    total: int = Field(ge=0)
    what: str = ""


class Stage(BaseModel):
    """A state with the time at which it was entered."""

    state: str
    at: datetime


class SubmissionView(BaseModel):
    """A submission as the API shows it."""

    id: str
    state: str
    outcome: str | None = None
    error: str | None = None
    checkpoint: str
    base: str | None = None
    policy: str
    metadata: dict[str, str] = Field(default_factory=dict)
    created_at: datetime
    standing_since: str | None = None
    progress: Progress | None = None
    stages: list[Stage] = Field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED


class Page(BaseModel):
    """A page of a list; ``next_cursor`` is None on the last one."""

    items: list[dict[str, Any]]
    next_cursor: str | None = None


class Uploaded(BaseModel):
    """An upload that can be submitted under the name ``checkpoint``."""

    checkpoint: str
