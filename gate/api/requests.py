"""What every request is known by: its id, in logs and in the answer, and its submission in logs."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

REQUEST_ID = "X-Request-ID"
#: An id that a caller may choose: nothing in it needs quoting anywhere.
_WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SUBMISSION = re.compile(r"/v1/submissions/(sub_[0-9a-f]{32})(?![0-9a-f])")


def request_id_of(given: str | None) -> str:
    """The caller's id if it is well formed, else a new one."""
    return given if given and _WELL_FORMED.fullmatch(given) else f"req_{uuid.uuid4().hex}"


def current_request_id() -> str:
    """The id of the request that is answered now; empty outside of one."""
    return str(get_contextvars().get("request", ""))


class RequestContext:
    """Binds the ids for all that is logged while a request is answered, and sends its id back.

    What is bound stays until the task of the request ends: the server logs the access, and an
    error that nobody handled, after this middleware has returned.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(Headers(scope=scope).get(REQUEST_ID))
        clear_contextvars()
        bind_contextvars(request=request_id)
        _bind_submission(scope["path"])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                # Only the answer says what was made.
                _bind_submission(headers.get("location", ""))
            await send(message)

        await self._app(scope, receive, send_with_id)


def _bind_submission(path: str) -> None:
    if found := _SUBMISSION.match(path):
        bind_contextvars(submission=found[1])
