"""Enforcement at the door of the API: every request, also to paths that do not exist."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gate.access.keys import redact
from gate.access.scopes import scope_needed
from gate.api.admission import Admission, Call, Refused
from gate.api.problems import MEDIA_TYPE, Problem, problem_responses, problem_type
from gate.api.requests import current_request_id
from gate.settings import Settings

#: What a refused WebSocket is closed with: policy violation.
WEBSOCKET_REFUSED = 1008


def install_access(app: FastAPI, settings: Settings, database: Engine) -> None:
    """Put enforcement around the app, and describe it in the OpenAPI document.

    ``app.state.admission`` holds keys and audit log for routes.
    """
    admission = Admission(settings, database)
    app.state.admission = admission
    app.add_middleware(AccessMiddleware, admission=admission)
    _describe(app)
    access_log = logging.getLogger("uvicorn.access")
    if not any(isinstance(f, RedactKeys) for f in access_log.filters):
        access_log.addFilter(RedactKeys())


class AccessMiddleware:
    """Admits or refuses each request before any of its body is read.

    Plain ASGI and no dependency: streams pass through untouched, and unknown paths and methods are
    refused like known ones. Sets ``request.state.actor``, and
    ``request.state.audit`` where the route writes the row of the audit log.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            # There is no WebSocket route; one that is added must be admitted here first.
            await send({"type": "websocket.close", "code": WEBSOCKET_REFUSED})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = _call(scope)
        decided = await asyncio.to_thread(self._admission.begin, call)
        if isinstance(decided, Refused):
            await _problem(decided, call.path)(scope, receive, send)
            return
        scope.setdefault("state", {}).update(actor=decided.actor, audit=decided.pending)
        status, location = 500, None

        async def observe(message: Message) -> None:
            nonlocal status, location
            if message["type"] == "http.response.start":
                status = message["status"]
                location = Headers(raw=message["headers"]).get("location")
            await send(message)

        try:
            await self._app(scope, receive, observe)
        finally:
            actor = str(scope["state"].get("actor", decided.actor))
            self._admission.end(call, decided, actor, status, location)


class RedactKeys(logging.Filter):
    """Cuts keys out of log records, where somebody put one into a URL."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; never drop it."""
        record.msg = redact(str(record.msg))
        if isinstance(record.args, tuple):
            record.args = tuple(redact(a) if isinstance(a, str) else a for a in record.args)
        return True


def _call(scope: Scope) -> Call:
    # Of a header that comes twice the values are joined: two keys are none that is known.
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        text = value.decode("latin-1")
        key = name.decode("latin-1").lower()
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    client = scope.get("client")
    return Call(scope["method"], scope["path"], client[0] if client else None, headers)


def _problem(refused: Refused, path: str) -> JSONResponse:
    problem = Problem(
        type=problem_type(refused.title),
        title=refused.title,
        status=refused.status,
        detail=refused.detail,
        instance=redact(path),
        request_id=current_request_id(),
    )
    return JSONResponse(
        problem.model_dump(exclude_defaults=True),
        refused.status,
        media_type=MEDIA_TYPE,
        headers=dict(refused.headers),
    )


def _describe(app: FastAPI) -> None:
    """Add the key, the scope of each operation and its refusals to the OpenAPI document."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        document = plain()
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).setdefault("Problem", Problem.model_json_schema())
        components.setdefault("securitySchemes", {})["key"] = {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "emg_<id>_<secret>",
            "description": "An API key. While no key exists, requests from this machine need none.",
        }
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                needed = scope_needed(method.upper(), path)
                if needed is None:
                    continue
                operation["security"] = [{"key": []}, {}]
                operation["x-required-scope"] = needed.value
                for status in (401, 403, 429):
                    operation["responses"].setdefault(str(status), _described_problem(status))
        return document

    app.openapi = described  # type: ignore[method-assign]


def _described_problem(status: int) -> dict[str, Any]:
    documented = problem_responses(status)[status]
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": documented["description"],
        "content": {MEDIA_TYPE: {"schema": schema}},
    }
