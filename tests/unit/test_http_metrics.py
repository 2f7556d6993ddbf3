"""Requests are counted and timed under labels that no caller can multiply."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from gate.api.http_metrics import HttpMetrics


async def _answer(request: Request) -> PlainTextResponse:
    if request.path_params["thing"] == "broken":
        raise RuntimeError("a bug")
    return PlainTextResponse("yes")


@pytest.fixture
def api() -> TestClient:
    app = Starlette(routes=[Route("/things/{thing}", _answer, methods=["GET", "POST"])])
    app.add_middleware(HttpMetrics)
    return TestClient(app, raise_server_exceptions=False)


class Counted:
    """How much a series has grown since this was made."""

    def __init__(self, name: str, **labels: str) -> None:
        self._name, self._labels = name, labels
        self._before = self._value()

    def _value(self) -> float:
        return REGISTRY.get_sample_value(self._name, self._labels) or 0.0

    @property
    def more(self) -> float:
        return self._value() - self._before


def requests(**labels: str) -> Counted:
    return Counted("emgate_http_requests_total", **labels)


def test_the_template_of_a_route_is_counted_and_not_its_paths(api: TestClient) -> None:
    counted = requests(method="GET", route="/things/{thing}", status="200")
    timed = Counted(
        "emgate_http_request_duration_seconds_count", method="GET", route="/things/{thing}"
    )
    for thing in ("one", "two", "three"):
        assert api.get(f"/things/{thing}").text == "yes"
    assert (counted.more, timed.more) == (3, 3)


def test_unknown_paths_are_one_route(api: TestClient) -> None:
    counted = requests(method="GET", route="none", status="404")
    for path in ("/", "/a", "/things", "/things/one/two", "/%0a"):
        api.get(path)
    assert counted.more == 5


def test_unknown_methods_are_one_method(api: TestClient) -> None:
    counted = requests(method="other", route="/things/{thing}", status="405")
    for method in ("BREW", "PROPFIND", "X" * 100):
        api.request(method, "/things/one")
    assert counted.more == 3


def test_a_bug_counts_as_an_answer_of_500(api: TestClient) -> None:
    counted = requests(method="GET", route="/things/{thing}", status="500")
    assert api.get("/things/broken").status_code == 500
    assert counted.more == 1


def test_a_client_that_goes_away_first_counts_as_one_that_did() -> None:
    async def waits(_scope: Any, _receive: Any, _send: Any) -> None:
        await asyncio.sleep(60)

    async def gone() -> None:
        scope = {"type": "http", "method": "POST"}
        task = asyncio.create_task(HttpMetrics(waits)(scope, None, None))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    counted = requests(method="POST", route="none", status="499")
    asyncio.run(gone())
    assert counted.more == 1


def test_an_answer_is_counted_when_it_starts_and_once() -> None:
    counted = requests(method="GET", route="none", status="200")
    seen = []

    async def streams(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        seen.append(counted.more)
        await send({"type": "http.response.body", "body": b""})

    async def send(_message: Any) -> None:
        pass

    asyncio.run(HttpMetrics(streams)({"type": "http", "method": "GET"}, None, send))  # type: ignore[arg-type]
    assert (seen, counted.more) == ([1], 1)
