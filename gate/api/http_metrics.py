"""Counts and times the requests of the API, whatever becomes of them."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gate.metrics import HTTP_REQUEST_SECONDS, HTTP_REQUESTS

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD = "other"
#: Of requests that reached no route: the path is unknown, or they were refused before.
NO_ROUTE = "none"
BROKEN = 500
#: Of requests that got no answer, because the client went away first.
WENT_AWAY = 499


class HttpMetrics:
    """Counts a request when its answer starts, so that a stream counts at its beginning.

    The labels are bounded: methods that HTTP does not commonly have are one, and so are all paths
    without a route; of a route the template is taken, never the path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        counted = False

        def count(status: int) -> None:
            nonlocal counted
            if not counted:
                counted = True
                _count(scope, status, time.perf_counter() - began)

        async def observe(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, observe)
        except Exception:
            count(BROKEN)
            raise
        finally:
            count(WENT_AWAY)


def _count(scope: Scope, status: int, seconds: float) -> None:
    method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD
    route = getattr(scope.get("route"), "path", NO_ROUTE)
    HTTP_REQUESTS.labels(method, route, str(status)).inc()
    HTTP_REQUEST_SECONDS.labels(method, route).observe(seconds)
