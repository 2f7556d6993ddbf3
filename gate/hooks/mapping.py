"""From a payload to a submission: the first rule that fits, and its texts filled in. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from pydantic import ValidationError

from gate.hooks.config import Rule, SubmissionTemplate
from gate.hooks.template import PayloadError, fill, fill_location, parse_path, value_at
from gate.submission import SubmissionRequest

R = TypeVar("R", bound=Rule)


def first_rule(rules: Sequence[R], event: str, payload: object) -> R | None:
    """The first rule whose events and conditions fit, or None."""
    return next((r for r in rules if _names(r, event) and _holds(r.when, payload)), None)


def request_of(wanted: SubmissionTemplate, payload: object) -> SubmissionRequest:
    """The submission that a rule makes of a payload.

    Raises:
        PayloadError: a path leads nowhere, or the values make no valid submission.
    """
    sample = wanted.training_sample
    values = {
        "checkpoint": fill_location(wanted.checkpoint, payload),
        "base": None if wanted.base is None else fill_location(wanted.base, payload),
        "policy": fill(wanted.policy, payload),
        "battery": None if wanted.battery is None else fill(wanted.battery, payload),
        "training_sample": None if sample is None else fill(sample, payload),
        "fresh": wanted.fresh,
        "metadata": {name: fill(text, payload) for name, text in wanted.metadata.items()},
    }
    try:
        return SubmissionRequest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise PayloadError(f"the values make no submission: {place}: {first['msg']}") from error


def _names(rule: Rule, event: str) -> bool:
    """Whether the rule names the event, or what it is a kind of: ``push``, ``repo.content``."""
    return any(fnmatchcase(event, p) or event.startswith(f"{p}.") for p in rule.events)


def _holds(when: Mapping[str, Sequence[str]], payload: object) -> bool:
    for path, patterns in when.items():
        try:
            value = value_at(payload, parse_path(path))
        except PayloadError:
            return False
        if not any(fnmatchcase(value, pattern) for pattern in patterns):
            return False
    return True
