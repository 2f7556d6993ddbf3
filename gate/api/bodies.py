"""Bodies of requests: how large they may be, and of which type."""

from __future__ import annotations

from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gate.api.problems import TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, ProblemError

#: Paths below which the route reads the body itself, bounded by a limit of its own.
BOUNDED_BY_THEIR_ROUTES = ("/v1/uploads", "/v1/hooks/")


class BodyLimit:
    """Refuses to read more of a body than the limit, whatever its headers say.

    The refusal is raised where the body is read, so that it is answered as every problem is.
    """

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with a bounded body."""
        if scope["type"] != "http" or scope["path"].startswith(BOUNDED_BY_THEIR_ROUTES):
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        too_long = announced.isdigit() and int(announced) > self._most
        read = 0

        async def bounded() -> Message:
            nonlocal read
            if not too_long:
                message = await receive()
                read += len(message.get("body", b""))
                if read <= self._most:
                    return message
            raise HTTPException(
                TOO_LARGE.status, f"The body may have {self._most} bytes and is longer."
            )

        await self._app(scope, bounded, send)


async def require_json(request: Request) -> None:
    """Refuse a body that does not say that it is JSON.

    Raises:
        ProblemError: another type, or none.
    """
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and "+json" in kind):
        raise ProblemError.of(
            UNSUPPORTED_MEDIA_TYPE,
            f"Send the body as application/json, not as '{given[:100]}'.",
            {"Accept": "application/json"},
        )
