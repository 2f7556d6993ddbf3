"""The errors of the gate, and how each is shown.

GateError                   something that a person is told in one sentence
├── WrongUsageError         the request itself is wrong: exit code 2, or a 4xx problem
│   ├── PolicyError         the policy is unknown or its file is wrong
│   └── PathOutsideRootError  a path is not under any configured checkpoint root
├── CheckpointError         a checkpoint was refused; names the file and the reason
└── EngineError             the engine did not start, died, or serves other weights than meant
"""

from __future__ import annotations

from pathlib import Path


class GateError(Exception):
    """Something went wrong that a person can be told in one sentence."""


class WrongUsageError(GateError):
    """The request itself is wrong."""


class PolicyError(WrongUsageError):
    """A policy is unknown or its file is not usable."""


class PathOutsideRootError(WrongUsageError):
    """A path is not under any configured checkpoint root."""


class CheckpointError(GateError):
    """A checkpoint was refused.

    Attributes:
        file: the offending file or directory.
        reason: what is wrong with it, and what to do.
    """

    def __init__(self, file: Path | str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = str(file)
        self.reason = reason


class EngineError(GateError):
    """The engine did not start, died, or does not serve the weights that were meant."""
