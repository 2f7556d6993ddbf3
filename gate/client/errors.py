"""What can go wrong between a command and the gate."""

from __future__ import annotations

from gate.errors import GateError, WrongUsageError


class RefusedError(WrongUsageError):
    """The gate answered with a 4xx problem; the message is its detail.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class UnreachableError(GateError):
    """No gate answers at the address, or what answers is none."""


class BrokenGateError(GateError):
    """The gate answered that it is broken (5xx), after all retries.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class WaitedTooLongError(GateError):
    """The submission had not ended when the time was up; it goes on."""
