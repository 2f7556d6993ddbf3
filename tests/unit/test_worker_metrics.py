"""The worker's page: the engine's own metrics on it, and the port that it is served on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fakes.fake_engine import METRICS
from fakes.receiver import free_port
from prometheus_client.parser import text_string_to_metric_families

from gate.errors import GateError
from gate.metrics.page import registry_of, render
from gate.settings import Settings
from workers.engine.own_metrics import MOST_BYTES, own_metrics
from workers.metrics_page import EngineCollector, metrics_of_worker, serve_metrics


@dataclass
class FakeEngine:
    """An engine of which only its page is there."""

    page: str = METRICS
    runs: bool = True

    def alive(self) -> bool:
        return self.runs

    def metrics(self) -> str:
        return self.page


def names(page: bytes) -> list[str]:
    return [family.name for family in text_string_to_metric_families(page.decode())]


def test_the_engines_own_metrics_are_passed_on_under_their_own_names(tmp_path: Path) -> None:
    page = render(metrics_of_worker(Settings(home=tmp_path), FakeEngine()))
    assert b'vllm:generation_tokens_total{engine="0",model_name="candidate"} 640.0' in page
    assert b'le="+Inf",model_name="candidate"} 5.0' in page
    assert b"emgate_engine_up 1.0" in page
    found = names(page)
    assert len(found) == len(set(found)), "a name is described twice"
    assert "python_info" in found
    assert not [name for name in found if name.endswith("_created")]


@pytest.mark.parametrize("page", ["", "\0\0", 'vllm:a{b="', "vllm:a not-a-number", "# TYPE x"])
def test_a_page_that_cannot_be_read_is_left_out(page: str) -> None:
    got = render(registry_of(EngineCollector(FakeEngine(page))))
    assert b"emgate_engine_up 1.0" in got
    assert b"vllm" not in got


def test_an_engine_that_does_not_run_is_down_and_not_asked() -> None:
    got = render(registry_of(EngineCollector(FakeEngine(runs=False))))
    assert b"emgate_engine_up 0.0" in got
    assert b"vllm" not in got


def test_a_worker_without_runs_has_no_engine_that_could_be_down(tmp_path: Path) -> None:
    assert b"emgate_engine_up" not in render(metrics_of_worker(Settings(home=tmp_path), None))


@contextmanager
def answering(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """Something behind a Unix socket that treats one connection in its own way."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(30)
        assert not thread.is_alive()


def _send(connection: socket.socket, body: bytes) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def test_an_engine_is_asked_over_its_socket(short_tmp: Path) -> None:
    with answering(short_tmp / "s", lambda connection: _send(connection, METRICS.encode())):
        assert own_metrics(short_tmp / "s") == METRICS


def test_an_engine_that_is_silent_or_stops_in_the_middle_gives_nothing(short_tmp: Path) -> None:
    def silent(connection: socket.socket) -> None:
        # Until the other side gives up.
        while connection.recv(65536):
            pass

    def stops(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nvllm:a 1")

    assert own_metrics(short_tmp / "nobody") == ""
    for name, behaviour in (("silent", silent), ("stops", stops)):
        with answering(short_tmp / name, behaviour):
            assert own_metrics(short_tmp / name, seconds=0.1) == ""


def test_a_page_without_end_is_not_taken(short_tmp: Path) -> None:
    def endless(connection: socket.socket) -> None:
        try:
            _send(connection, b"#" * (MOST_BYTES + 1_000_000))
        except BrokenPipeError:
            connection.close()

    with answering(short_tmp / "s", endless):
        assert own_metrics(short_tmp / "s") == ""


@pytest.fixture
def two_ports() -> Iterator[tuple[int, Callable[[int], None]]]:
    """The first of two neighbouring ports that are free, and a way to take one."""
    with ExitStack() as taken:

        def take(port: int) -> None:
            holder = taken.enter_context(socket.socket())
            holder.bind(("127.0.0.1", port))
            holder.listen()

        for _ in range(100):
            with socket.socket() as one, socket.socket() as other:
                one.bind(("127.0.0.1", 0))
                port: int = one.getsockname()[1]
                try:
                    other.bind(("127.0.0.1", port + 1))
                except (OSError, OverflowError):
                    continue
            break
        yield port, take


def test_the_first_free_port_is_taken(
    tmp_path: Path, two_ports: tuple[int, Callable[[int], None]]
) -> None:
    port, take = two_ports
    take(port)
    settings = Settings(home=tmp_path, worker_metrics_port=port, worker_metrics_ports=2)
    server = serve_metrics(settings, metrics_of_worker(settings, FakeEngine()))
    try:
        url = f"http://127.0.0.1:{port + 1}/metrics"
        assert b"vllm:num_requests_running" in httpx.get(url).content
    finally:
        server.shutdown()
        server.server_close()


def test_names_stay_as_they_are_in_the_format_that_prometheus_prefers(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, worker_metrics_port=free_port())
    server = serve_metrics(settings, metrics_of_worker(settings, FakeEngine()))
    preferred = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    try:
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        page = httpx.get(url, headers={"Accept": preferred})
    finally:
        server.shutdown()
        server.server_close()
    assert b"vllm:num_requests_running{" in page.content


def test_where_no_port_is_free_the_settings_are_named(
    tmp_path: Path, two_ports: tuple[int, Callable[[int], None]]
) -> None:
    port, take = two_ports
    take(port)
    take(port + 1)
    settings = Settings(home=tmp_path, worker_metrics_port=port, worker_metrics_ports=2)
    with pytest.raises(GateError, match=rf"ports {port} to {port + 1} .*GATE_WORKER_METRICS_PORT"):
        serve_metrics(settings, metrics_of_worker(settings, None))
