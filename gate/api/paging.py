"""Pages of a list: opaque cursors that stay good while rows are added, and the ``Link`` header."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query, Request, Response

from gate.api.problems import INVALID_CURSOR, ProblemError

MOST_ITEMS = 200

Limit = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="Items on a page.")]
Cursor = Annotated[
    str | None,
    Query(
        max_length=512,
        description="`next_cursor` of the page before. Opaque: its content may change.",
    ),
]
#: A place in a list that is ordered by time, newest first, then by id.
Place = tuple[datetime, str]


def place_cursor(place: Place | None) -> str | None:
    """The cursor of a place in a list by time."""
    return _encode([place[0].isoformat(), place[1]]) if place else None


def read_place(cursor: str | None) -> Place | None:
    """The place that a cursor names.

    Raises:
        ProblemError: it is not a cursor of a list by time.
    """
    if cursor is None:
        return None
    match _decode(cursor):
        case [str(at), str(identity)] if "\0" not in identity:
            try:
                when = datetime.fromisoformat(at)
                return when.astimezone(UTC), identity
            except (ValueError, OverflowError) as error:
                raise _not_a_cursor() from error
    raise _not_a_cursor()


def number_cursor(number: int | None) -> str | None:
    """The cursor of a place in a list by number."""
    return _encode([number]) if number is not None else None


def read_number(cursor: str | None) -> int:
    """The number that a cursor names; 0 for none.

    Raises:
        ProblemError: it is not a cursor of a list by number.
    """
    if cursor is None:
        return 0
    match _decode(cursor):
        case [int(number)] if 0 <= number < 2**63 and not isinstance(number, bool):
            return number
    raise _not_a_cursor()


def link_next(request: Request, response: Response, cursor: str | None) -> None:
    """Add ``Link: <…>; rel="next"`` (RFC 8288), relative to the host, if there is a next page."""
    if cursor is not None:
        url = request.url.include_query_params(cursor=cursor)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'


def _encode(content: list[object]) -> str:
    raw = json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(cursor: str) -> object:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise _not_a_cursor() from error


def _not_a_cursor() -> ProblemError:
    return ProblemError.of(
        INVALID_CURSOR, "This is not a cursor that this list gave; begin again without one."
    )
