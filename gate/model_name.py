"""The name under which the verdicts on one model are shown together. Pure."""

from __future__ import annotations

from collections.abc import Mapping

#: Longest name or version that is shown, in characters.
LONGEST = 100
#: Keys of a submission's metadata.
MODEL_KEY = "model"
VERSION_KEY = "version"
#: Hexadecimal digits of a digest that stand for a version.
DIGITS = 12


def model_name(checkpoint: str, metadata: Mapping[str, str]) -> str:
    """The metadata's ``model``, else the last part of the checkpoint's path or URI.

    The revision of a hub's repository is no part of its name. At most 100 characters, all of which
    can be shown; never empty.
    """
    last = checkpoint.rstrip("/").rpartition("/")[2]
    if checkpoint.startswith("hf:"):
        # A revision may have slashes of its own.
        last = checkpoint.partition("@")[0].rstrip("/").rpartition("/")[2]
    return shown(metadata.get(MODEL_KEY, "")) or shown(last) or "unnamed"


def model_version(checkpoint_digest: str, metadata: Mapping[str, str]) -> str:
    """The metadata's ``version``, else the first 12 digits of the checkpoint's digest."""
    digits = checkpoint_digest.removeprefix("sha256:")[:DIGITS]
    return shown(metadata.get(VERSION_KEY, "")) or digits


def shown(text: str) -> str:
    """The text on one line, cut, with U+FFFD for every character that cannot be printed."""
    line = " ".join(text.split())[:LONGEST]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
