"""Durations as people write them: ``90d``, ``12h``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from gate.access.moments import in_utc
from gate.errors import WrongUsageError

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_UNITS["w"] = 7 * _UNITS["d"]
_DURATION = re.compile(r"([0-9]{1,6})([mhdw])")


def parse_duration(text: str) -> timedelta:
    """Read a whole number of minutes, hours, days or weeks: ``30m``, ``12h``, ``90d``, ``2w``.

    Raises:
        WrongUsageError: it is none of these, or zero.
    """
    found = _DURATION.fullmatch(text.strip())
    if not found or int(found[1]) == 0:
        raise WrongUsageError(
            f"'{text}' is not a duration: write a number with m, h, d or w, such as 90d"
        )
    return int(found[1]) * _UNITS[found[2]]


def after(now: datetime, text: str) -> datetime:
    """The time that lies this duration after now.

    Raises:
        WrongUsageError: not a duration, or beyond the end of the calendar.
    """
    try:
        return now + parse_duration(text)
    except OverflowError as error:
        raise WrongUsageError(f"'{text}' is too long a duration") from error


def since(now: datetime, text: str) -> datetime:
    """A past time: a duration before now, or an ISO 8601 time (UTC where it names no zone).

    Raises:
        WrongUsageError: it is neither.
    """
    if _DURATION.fullmatch(text.strip()):
        try:
            return now - parse_duration(text)
        except OverflowError as error:
            raise WrongUsageError(f"'{text}' is too long ago") from error
    try:
        given = datetime.fromisoformat(text)
    except ValueError as error:
        raise WrongUsageError(
            f"'{text}' is neither a duration, such as 24h, nor a time, such as 2026-01-31T08:00:00Z"
        ) from error
    try:
        return in_utc(given if given.tzinfo else given.replace(tzinfo=UTC))
    except ValueError as error:
        raise WrongUsageError(f"'{text}' {error}") from error
