"""The OpenAPI document: every operation says which problems it can answer with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gate.api.problems import Problem, problem_responses

#: What every operation can answer with.
ALWAYS = (422, 500, 503)
#: What those that take a body can answer with besides.
WITH_BODY = (400, 413, 415)
#: FastAPI's own descriptions of wrong input, which this API does not answer with.
_REPLACED = ("HTTPValidationError", "ValidationError")
_METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


def install_openapi(app: FastAPI) -> None:
    """Let the application describe itself with its problems."""
    app.openapi = _describe(app)  # type: ignore[method-assign]


def _describe(app: FastAPI) -> Callable[[], dict[str, Any]]:
    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            with_problems(document)
            app.openapi_schema = document
        return app.openapi_schema

    return describe


def with_problems(document: dict[str, Any]) -> None:
    """Add to a document, in place, what FastAPI cannot know of this API's errors."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _REPLACED:
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    for operation in _operations(document):
        answers = operation["responses"]
        if "HTTPValidationError" in str(answers.get("422")):
            del answers["422"]
        statuses = ALWAYS + (WITH_BODY if "requestBody" in operation else ())
        for status, described in problem_responses(*statuses).items():
            answers.setdefault(str(status), described)
        answers["503"].setdefault("headers", _RETRY_AFTER)


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        for method, operation in path.items():
            if method in _METHODS:
                yield operation


_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "string"},
    }
}
