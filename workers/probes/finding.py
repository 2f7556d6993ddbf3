"""What a probe finds, and what to do about it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel


class Health(StrEnum):
    """How a part is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(BaseModel):
    """What a probe found, and what to do about it."""

    name: str
    health: Health
    found: str
    remedy: str = ""


def ok(name: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(name=name, health=Health.OK, found=found)


def warn(name: str, found: str, remedy: str) -> Finding:
    """It works, but."""
    return Finding(name=name, health=Health.WARN, found=found, remedy=remedy)


def fail(name: str, found: str, remedy: str) -> Finding:
    """The gate cannot work like this."""
    return Finding(name=name, health=Health.FAIL, found=found, remedy=remedy)
