"""Fills texts of the hooks file with values from a payload. Values are data, never read again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_STEP = re.compile(r"[A-Za-z0-9_$-]+")
#: What a value may be made of that stands inside a longer path or URI.
_PATH_VALUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=-]*(/[A-Za-z0-9_][A-Za-z0-9._+=-]*)*")
#: The longest text that a template may become.
LONGEST = 1_000_000


class TemplateError(ValueError):
    """A template is not well formed."""


class PayloadError(ValueError):
    """A payload lacks what a template needs, or holds something that must not stand there."""


@dataclass(frozen=True)
class Path:
    """Steps into a payload: names of objects, and numbers of lists."""

    steps: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.steps)


def parse_path(text: str) -> Path:
    """Read ``deployment.payload.checkpoint`` or ``commits.0.id``.

    Raises:
        TemplateError: a step is empty or has other characters than letters, digits, ``_``, ``-``
            and ``$``.
    """
    steps = tuple(text.strip().split("."))
    if not all(_STEP.fullmatch(step) for step in steps):
        raise TemplateError(f"'{text}' is not a path such as repository.full_name")
    return Path(steps)


def parse_template(text: str) -> list[str | Path]:
    """The parts of a template: literal texts and paths. ``{{`` and ``}}`` stand for braces.

    Raises:
        TemplateError: a brace has no partner, or a path is not one.
    """
    parts: list[str | Path] = []
    for found in _PART.finditer(text):
        part = found.group()
        if found.group(1) is not None:
            parts.append(parse_path(found.group(1)))
        elif part in {"{", "}"}:
            raise TemplateError(f"a brace without a partner in '{text}': double it to mean itself")
        else:
            parts.append(part[0] if part in {"{{", "}}"} else part)
    return parts


def value_at(payload: object, path: Path) -> str:
    """The text, number or boolean at a path, as text.

    Raises:
        PayloadError: nothing is there, or something that is no plain value.
    """
    here = payload
    for step in path.steps:
        if isinstance(here, Mapping) and step in here:
            here = here[step]
        elif isinstance(here, list) and step.isascii() and step.isdigit() and len(step) < 6:
            if int(step) >= len(here):
                raise PayloadError(f"the payload has nothing at '{path}'")
            here = here[int(step)]
        else:
            raise PayloadError(f"the payload has nothing at '{path}'")
    if isinstance(here, bool):
        return "true" if here else "false"
    if not isinstance(here, str | int | float):
        kind = "nothing" if here is None else "no plain value"
        raise PayloadError(f"the payload has {kind} at '{path}'")
    return str(here)


def fill(text: str, payload: object) -> str:
    """The template with every path replaced by the value there, once.

    Raises:
        PayloadError: a path leads nowhere, or the result is longer than ``LONGEST`` characters.
    """
    return _joined(
        [p if isinstance(p, str) else value_at(payload, p) for p in parse_template(text)]
    )


def fill_location(text: str, payload: object) -> str:
    """The same for a path or URI of a checkpoint, where a value must not lead elsewhere.

    A template that is one path alone takes the value as it is: the whole location is then the
    sender's to say, and intake holds it to the configured roots and sources. Inside a longer text
    a value must be plain segments, so that it can neither climb up nor start another URI.

    Raises:
        PayloadError: as :func:`fill`, or a value that is not plain segments.
    """
    parts = parse_template(text)
    alone = len(parts) == 1
    values = []
    for part in parts:
        value = part if isinstance(part, str) else value_at(payload, part)
        if isinstance(part, Path) and not alone and not _PATH_VALUE.fullmatch(value):
            raise PayloadError(
                f"the value at '{part}' cannot stand inside a location: only letters, digits and "
                "._+=-/ may, and no segment that starts with a dot"
            )
        values.append(value)
    return _joined(values)


def _joined(values: list[str]) -> str:
    filled = "".join(values)
    if len(filled) > LONGEST:
        raise PayloadError(f"a value is longer than {LONGEST:,} characters")
    return filled
