"""Removes from an environment what only development needs. Usage: prune.py EXTRA…

Kept is what em-gate with these extras requires, directly or not, and what requirements/models.lock
names. The lock files have everything in one, so that tests run on what is deployed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "em-gate"
MODELS = Path("requirements/models.lock")


def needed(
    installed: Mapping[str, Iterable[Requirement]], root: str, extras: Iterable[str]
) -> set[str]:
    """The closure of a project's requirements among what is installed, the project included.

    Args:
        installed: the requirements of each distribution, by canonical name.
        root: the project.
        extras: of the project.
    """
    seen: set[tuple[str, str]] = set()
    open_ones = [(root, ""), *((root, extra) for extra in extras)]
    while open_ones:
        name, extra = open_ones.pop()
        if (name, extra) in seen or name not in installed:
            continue
        seen.add((name, extra))
        for requirement in installed[name]:
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            other = canonicalize_name(requirement.name)
            open_ones += [(other, ""), *((other, wanted) for wanted in requirement.extras)]
    return {name for name, _ in seen}


def named(lock: str) -> set[str]:
    """The projects that a lock file pins."""
    lines = [line for line in lock.splitlines() if "==" in line and not line.startswith("#")]
    return {canonicalize_name(line.split("==")[0].strip()) for line in lines}


def requirements_of(found: Iterable[Distribution]) -> dict[str, list[Requirement]]:
    """What each distribution requires, by canonical name."""
    return {
        canonicalize_name(d.metadata["Name"]): [Requirement(text) for text in d.requires or ()]
        for d in found
    }


def main(extras: list[str]) -> int:
    """Uninstall the rest, pip last."""
    installed = requirements_of(distributions())
    keep = needed(installed, PROJECT, extras) | named(MODELS.read_text(encoding="utf-8"))
    rest = sorted(set(installed) - keep - {"pip"})
    print(f"prune: {len(keep)} of {len(installed)} distributions stay")
    pip = [sys.executable, "-m", "pip", "--quiet", "uninstall", "--yes"]
    subprocess.run([*pip, *rest, "pip"], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
