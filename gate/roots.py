"""Confining submitted paths to the configured roots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gate.errors import PathOutsideRootError, WrongUsageError


def confine(path: str, roots: Sequence[Path]) -> Path:
    """The real path of a submitted directory.

    Links are followed first, so a link inside a root that leads out of it is outside.

    Raises:
        PathOutsideRootError: the path is under none of the roots.
        WrongUsageError: it is not an existing directory.
    """
    if "\0" in path:
        raise WrongUsageError("a path must not contain a NUL character")
    if not roots:
        raise PathOutsideRootError(
            "no checkpoint root is configured, so no path is accepted; set GATE_CHECKPOINT_ROOTS"
        )
    try:
        real = Path(path).resolve()
        is_directory = real.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise WrongUsageError(f"{path!r} cannot be resolved: {error}") from error
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        allowed = ", ".join(str(root) for root in roots)
        raise PathOutsideRootError(f"{path} is not under a checkpoint root ({allowed})")
    if not is_directory:
        raise WrongUsageError(f"{path} is not a directory")
    return real
