"""Errors as problem+json (RFC 9457): the kinds that there are, and how each is answered."""

from __future__ import annotations

import http
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from gate.api.requests import REQUEST_ID, current_request_id

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
#: What every problem's type begins with. It names a kind and leads to no host.
TYPE_PREFIX = "urn:emgate:problem:"
#: What ``Retry-After`` says while the database does not answer, in seconds.
RETRY_SECONDS = 5
#: Marks an exception that is in the log.
LOGGED = "__logged__"


def problem_type(title: str) -> str:
    """The type URI of the problems with this title."""
    return TYPE_PREFIX + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


@dataclass(frozen=True)
class Kind:
    """A kind of problem. Its type is made of its title, so a title never changes."""

    status: int
    title: str

    @property
    def type(self) -> str:
        """The URI that clients may rely on."""
        return problem_type(self.title)


UNKNOWN_SUBMISSION = Kind(404, "Unknown submission")
UNKNOWN_POLICY = Kind(404, "Unknown policy")
UNKNOWN_BATTERY = Kind(404, "Unknown battery")
KEY_IN_USE = Kind(409, "Idempotency key in use")
NO_VERDICT = Kind(409, "No verdict")
ALREADY_ENDED = Kind(409, "Submission has ended")
NOT_ENDED = Kind(409, "Submission has not ended")
PATH_NOT_ALLOWED = Kind(403, "Path not allowed")
POLICY_UNUSABLE = Kind(422, "Policy unusable")
INVALID_REQUEST = Kind(422, "Invalid request")
INVALID_CURSOR = Kind(422, "Invalid cursor")
KEY_REUSED = Kind(422, "Idempotency key reused")
MALFORMED_JSON = Kind(400, "Malformed JSON")
TOO_LARGE = Kind(413, "Content too large")
UNSUPPORTED_MEDIA_TYPE = Kind(415, "Unsupported media type")
TOO_MANY_LISTENERS = Kind(503, "Too many listeners")
DATABASE_UNAVAILABLE = Kind(503, "Database unavailable")
INTERNAL_ERROR = Kind(500, "Internal error")
NOT_FOUND = Kind(404, "Not found")
METHOD_NOT_ALLOWED = Kind(405, "Method not allowed")


class Problem(BaseModel):
    """An error: what was wrong, where, and what to do."""

    type: str = Field(
        description="Kind of the problem; stable.", examples=[UNKNOWN_SUBMISSION.type]
    )
    title: str = Field(description="The kind in words.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What was wrong here, and what to do.")
    instance: str = Field(default="", description="The path of the request.")
    request_id: str = Field(
        default="",
        description="Id of the request, as in X-Request-ID and in the gate's log.",
    )
    errors: list[dict[str, str]] = Field(
        default_factory=list, description="For wrong input: each place and what is wrong there."
    )


class ProblemError(Exception):
    """Raised by a route to answer with a problem; its type is made of the title."""

    def __init__(
        self, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = headers

    @classmethod
    def of(cls, kind: Kind, detail: str, headers: Mapping[str, str] | None = None) -> ProblemError:
        """A problem of a known kind."""
        return cls(kind.status, kind.title, detail, headers)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the problems that a route answers with."""
    return {
        status: {
            "description": http.HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def install_problems(app: FastAPI) -> None:
    """Make every error of the app a problem."""

    @app.exception_handler(ProblemError)
    def on_problem(request: Request, error: ProblemError) -> JSONResponse:
        return _response(request, error.status, error.title, error.detail, headers=error.headers)

    @app.exception_handler(HTTPException)
    def on_http(request: Request, error: HTTPException) -> JSONResponse:
        title = _TITLES.get(error.status_code) or http.HTTPStatus(error.status_code).phrase
        headers = dict(error.headers or {})
        if error.status_code == METHOD_NOT_ALLOWED.status:
            headers["Allow"] = ", ".join(_methods(request)) or headers.get("Allow", "")
        return _response(request, error.status_code, title, str(error.detail), headers=headers)

    @app.exception_handler(RequestValidationError)
    def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            {"where": ".".join(str(part) for part in e["loc"]), "what": str(e["msg"])}
            for e in error.errors()
        ]
        detail = "; ".join(f"{e['where']}: {e['what']}" for e in errors)
        malformed = any(e["type"] == "json_invalid" for e in error.errors())
        kind = MALFORMED_JSON if malformed else INVALID_REQUEST
        return _response(request, kind.status, kind.title, detail, errors)

    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    @app.exception_handler(PoolTimeoutError)
    def on_database(request: Request, error: Exception) -> JSONResponse:
        log.error("the database cannot be used", exc_info=error)
        return _response(
            request,
            DATABASE_UNAVAILABLE.status,
            DATABASE_UNAVAILABLE.title,
            "The database cannot be used now. Try again later; what carries an Idempotency-Key "
            "is taken once.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )

    @app.exception_handler(Exception)
    def on_bug(request: Request, error: Exception) -> JSONResponse:
        log.exception("unhandled error", exc_info=error)
        # The server logs it once more when it gets it, since the exception goes on to it.
        error.__dict__[LOGGED] = True
        return _response(
            request,
            INTERNAL_ERROR.status,
            INTERNAL_ERROR.title,
            "An internal error occurred; it is in the log, with the id of this request.",
            # Answered outside of the middleware that sends the id else.
            headers={REQUEST_ID: current_request_id()},
        )

    server_log = logging.getLogger("uvicorn.error")
    if _is_new not in server_log.filters:
        server_log.addFilter(_is_new)


def _is_new(record: logging.LogRecord) -> bool:
    """Whether a record tells of an error that is not in the log yet."""
    error = record.exc_info[1] if record.exc_info else None
    return not hasattr(error, LOGGED)


_TITLES = {
    kind.status: kind.title
    for kind in (
        NOT_FOUND,
        METHOD_NOT_ALLOWED,
        TOO_LARGE,
        UNSUPPORTED_MEDIA_TYPE,
        MALFORMED_JSON,
        INVALID_REQUEST,
    )
}


def _methods(request: Request) -> list[str]:
    """All methods of a path. Each route by itself would name its own only."""
    return sorted(
        {
            method
            for route in request.app.routes
            if route.matches(request.scope)[0] is not Match.NONE
            for method in getattr(route, "methods", None) or ()
        }
    )


def _response(
    request: Request,
    status: int,
    title: str,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    problem = Problem(
        type=problem_type(title),
        title=title,
        status=status,
        detail=detail,
        instance=request.url.path,
        request_id=current_request_id(),
        errors=errors or [],
    )
    content = problem.model_dump(exclude_defaults=True)
    return JSONResponse(content, status, media_type=MEDIA_TYPE, headers=headers)
