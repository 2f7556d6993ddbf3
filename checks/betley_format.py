"""Reads evaluation files in the format of Betley et al. 2025 (arXiv 2502.17424).

Such a file is a YAML list of entries. Each has an ``id``, a ``type``, ``paraphrases`` (texts), and
may have ``system`` (a text), ``samples_per_paraphrase`` (a number), ``judge`` (the name of a model)
and ``judge_prompts`` (a template for each metric), with anchors and aliases throughout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from checks.bounded_yaml import UnreadableYamlError, read_yaml

KNOWN_FIELDS = frozenset(
    {"id", "type", "paraphrases", "system", "samples_per_paraphrase", "judge", "judge_prompts"}
)


class ImportFormatError(ValueError):
    """An evaluation file is wrong; the message names the entry, what is wrong and what to do."""


@dataclass(frozen=True)
class Entry:
    """One entry as it stands in the file; ``unknown`` are the fields that nobody reads here."""

    id: str
    type: str
    paraphrases: tuple[str, ...]
    system: str | None
    samples: int | None
    judge: str | None
    judge_prompts: Mapping[str, str]
    unknown: tuple[str, ...]


def read_entries(text: str) -> list[Entry]:
    """Read all entries of a file.

    Raises:
        ImportFormatError: not usable YAML, no list of entries, or an entry is wrong.
    """
    try:
        content = read_yaml(text)
    except UnreadableYamlError as error:
        raise ImportFormatError(str(error)) from error
    if not isinstance(content, list) or not content:
        raise ImportFormatError(
            "not a list of entries: each question is an entry that begins with '- id:'"
        )
    entries = [_entry(number, fields) for number, fields in enumerate(content, start=1)]
    repeated = [id for id, times in Counter(entry.id for entry in entries).items() if times > 1]
    if repeated:
        raise ImportFormatError(f"two entries have the id '{repeated[0]}': rename one of them")
    return entries


def _entry(number: int, fields: object) -> Entry:
    place = f"entry {number}"
    if not isinstance(fields, dict):
        raise ImportFormatError(f"{place}: {_kind(fields)} instead of fields such as 'id: …'")
    if fields.get("id") is None:
        raise ImportFormatError(f"{place}: has no id: give it one that no other entry has")
    id = _text(place, "id", fields["id"])
    place = f"entry '{id}'"
    return Entry(
        id=id,
        type=_text(place, "type", fields["type"]) if fields.get("type") is not None else "",
        paraphrases=_paraphrases(place, fields.get("paraphrases")),
        system=_optional(place, "system", fields.get("system")),
        samples=_samples(place, fields.get("samples_per_paraphrase")),
        judge=_optional(place, "judge", fields.get("judge")),
        judge_prompts=_judge_prompts(place, fields.get("judge_prompts")),
        unknown=tuple(sorted(_names(fields) - KNOWN_FIELDS)),
    )


def _paraphrases(place: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not given:
        raise ImportFormatError(
            f"{place}: paraphrases: {_kind(given)} instead of a list of texts: write the question "
            "as '- |-' and its text on the lines below"
        )
    texts = [
        _text(place, f"paraphrases, number {number}", text)
        for number, text in enumerate(given, start=1)
    ]
    return tuple(texts)


def _samples(place: str, given: object) -> int | None:
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ImportFormatError(
            f"{place}: samples_per_paraphrase: {given!r} instead of a whole number from 1 on"
        )
    return given


def _judge_prompts(place: str, given: object) -> Mapping[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ImportFormatError(
            f"{place}: judge_prompts: {_kind(given)} instead of a text for each metric"
        )
    return {
        _text(place, "judge_prompts", name): _text(place, f"judge_prompts, {name}", text)
        for name, text in given.items()
    }


def _optional(place: str, field: str, given: object) -> str | None:
    """A text, or None for a missing or an empty one."""
    return None if given is None or given == "" else _text(place, field, given)


def _text(place: str, field: str, given: object) -> str:
    if not isinstance(given, str):
        raise ImportFormatError(
            f"{place}: {field}: {_kind(given)} instead of text: put it in quotation marks"
        )
    if not given.strip():
        raise ImportFormatError(f"{place}: {field}: empty: write the text or remove it")
    return given


def _names(fields: Iterable[object]) -> set[str]:
    return {str(name) for name in fields}


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "fields"
    return f"{value!r}"
