"""Events over real HTTP, from two API processes on one database."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from fakes.gate import environment_of, until
from fakes.receiver import free_port
from httpx_sse import connect_sse

from gate.settings import Settings
from gate.submission import State, SubmissionRequest
from integration.harness import Record


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """``emgate serve`` in a process of its own."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "gate", "serve", "--port", str(port)],
        env=environment_of(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/health", timeout=5).is_success
        except httpx.TransportError:
            assert process.poll() is None, "the API has ended"
            return False

    try:
        until(answers, 90)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def settings(isolated_settings: Settings) -> Settings:
    return isolated_settings.model_copy(
        update={
            "events_poll_seconds": 0.05,
            "events_heartbeat_seconds": 0.2,
            "events_listeners": 3,
        }
    )


@pytest.fixture
def two(settings: Settings) -> Iterator[tuple[str, str]]:
    with ExitStack() as stack:
        yield stack.enter_context(served(settings)), stack.enter_context(served(settings))


def test_each_process_tells_the_same_events_and_goes_on_where_the_other_stopped(
    two: tuple[str, str], settings: Settings
) -> None:
    record = Record(settings).submissions
    made = record.create(SubmissionRequest(checkpoint="/c"), "api")
    first, second = (f"{url}/v1/submissions/{made.id}/events" for url in two)
    with httpx.Client(timeout=60) as client:
        with connect_sse(client, "GET", first) as stream:
            event = next(stream.iter_sse())
            assert event.json()["state"] == "queued"
        record.move(made.id, State.PREPARING)
        told = []
        headers = {"Last-Event-ID": event.id}
        with connect_sse(client, "GET", second, headers=headers) as stream:
            for later in stream.iter_sse():
                told.append(later.json()["state"])
                record.move(made.id, State.CANCELLED)
        assert told == ["preparing", "cancelled"]


def test_a_silent_stream_shows_that_it_is_alive_and_many_of_them_keep_nobody_waiting(
    two: tuple[str, str], settings: Settings
) -> None:
    record = Record(settings).submissions
    made = record.create(SubmissionRequest(checkpoint="/c"), "api")
    url = two[0]
    path = f"{url}/v1/submissions/{made.id}/events"
    with httpx.Client(timeout=60) as client, ExitStack() as stack:
        streams = [stack.enter_context(client.stream("GET", path)) for _ in range(3)]
        # The iterators are kept: a stream ends with its iterator.
        pages = [stream.iter_text() for stream in streams]
        for page in pages:
            heard = ""
            while not re.search(r"^: ping", heard, re.M):
                heard += next(page)
        assert client.get(f"{url}/v1/submissions/{made.id}").status_code == 200
        with client.stream("GET", path) as refused:
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert "urn:emgate:problem:too-many-listeners" in refused.read().decode()
    record.move(made.id, State.CANCELLED)
    # Those who have gone are no longer counted.
    until(lambda: httpx.get(path, timeout=30).status_code == 200, 30)
