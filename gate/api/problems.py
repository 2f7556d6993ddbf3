"""Errors as problem+json (RFC 9457)."""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An error: what was wrong, where, and what to do."""

    type: str = Field(default="about:blank", description="Kind of the problem.")
    title: str = Field(description="The kind in words.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What was wrong here, and what to do.")
    instance: str = Field(default="", description="The path of the request.")
    errors: list[dict[str, str]] = Field(
        default_factory=list, description="For wrong input: each place and what is wrong there."
    )


class ProblemError(Exception):
    """Raised by a route to answer with a problem."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the problems that a route answers with."""
    return {
        status: {
            "model": Problem,
            "description": http.HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {}},
        }
        for status in statuses
    }


def install_problems(app: FastAPI) -> None:
    """Make every error of the app a problem."""

    @app.exception_handler(ProblemError)
    def on_problem(request: Request, error: ProblemError) -> JSONResponse:
        return _response(request, error.status, error.title, error.detail)

    @app.exception_handler(HTTPException)
    def on_http(request: Request, error: HTTPException) -> JSONResponse:
        title = http.HTTPStatus(error.status_code).phrase
        return _response(
            request, error.status_code, title, str(error.detail), headers=error.headers
        )

    @app.exception_handler(RequestValidationError)
    def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            {"where": ".".join(str(part) for part in e["loc"]), "what": str(e["msg"])}
            for e in error.errors()
        ]
        detail = "; ".join(f"{e['where']}: {e['what']}" for e in errors)
        return _response(request, 422, "The request is not valid", detail, errors)

    @app.exception_handler(Exception)
    def on_bug(request: Request, error: Exception) -> JSONResponse:
        log.exception("unhandled error", exc_info=error)
        return _response(
            request, 500, "The gate broke", "An internal error occurred; it is in the log."
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
        title=title,
        status=status,
        detail=detail,
        instance=request.url.path,
        errors=errors or [],
    )
    content = problem.model_dump(exclude_defaults=True) | {"type": problem.type}
    return JSONResponse(content, status, media_type=MEDIA_TYPE, headers=headers)
