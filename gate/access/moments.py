"""Times as programs write them: RFC 3339 with a zone, nothing that only resembles it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)


def _is_text(value: object) -> object:
    """Refuse the numbers that pydantic would take as seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        return value
    raise ValueError("is not a time such as 2026-01-31T08:00:00Z")


def in_utc(value: datetime) -> datetime:
    """The same moment in UTC.

    Raises:
        ValueError: in UTC it is outside the calendar.
    """
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is outside the calendar") from error


#: A moment in a request, in UTC once it is read; a time without a zone is refused.
Moment = Annotated[AwareDatetime, BeforeValidator(_is_text), AfterValidator(in_utc)]
