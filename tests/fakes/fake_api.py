"""A fake of the gate's API that speaks its contract, for the client's tests.

A function from request to response, put under the real httpx client as its transport.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

NOW = "2026-11-24T20:00:00Z"
ID = "0198c1f2"


def view(state: str = "queued", **more: Any) -> dict[str, Any]:
    """A submission as the API shows it."""
    return {
        "id": ID,
        "state": state,
        "outcome": None,
        "error": None,
        "checkpoint": "/checkpoints/tuned",
        "base": None,
        "policy": "default",
        "metadata": {},
        "created_at": NOW,
        "progress": None,
        "stages": [{"state": "queued", "at": NOW}],
        "links": {"self": f"/v1/submissions/{ID}"},
        **more,
    }


def event(kind: str, data: dict[str, Any], number: int | None = None) -> str:
    """A server-sent event."""
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data)}\n\n"


@dataclass
class FakeApi:
    """Answers from queues by ``METHOD path``; the last answer of a queue stays."""

    answers: dict[str, list[httpx.Response | BaseException]] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    def on(self, route: str, *answers: httpx.Response | BaseException) -> FakeApi:
        self.answers[route] = list(answers)
        return self

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        queue = self.answers.get(f"{request.method} {request.url.path}")
        if queue is None:
            return problem(404, "there is no such route")
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(answer, BaseException):
            raise answer
        # A copy, because a response can be read once.
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def problem(status: int, detail: str, **headers: str) -> httpx.Response:
    """A problem+json answer."""
    content = {"type": "about:blank", "title": "no", "status": status, "detail": detail}
    media = {"content-type": "application/problem+json"}
    return httpx.Response(status, headers={**headers, **media}, content=json.dumps(content))


def stream(*events: str) -> httpx.Response:
    """A stream of events that ends after the last one."""
    return httpx.Response(
        200, headers={"content-type": "text/event-stream"}, content="".join(events)
    )
