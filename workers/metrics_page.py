"""The page of metrics of a worker process: what it counts, and what its engine says of itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Protocol
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from gate.errors import GateError
from gate.metrics import PROCESS_STARTED
from gate.metrics import names_of_record as names
from gate.metrics.catalogue import Where
from gate.metrics.page import InstallationCollector, ProcessCollector, registry_of
from gate.settings import Settings

log = logging.getLogger(__name__)

#: What vLLM's own metrics begin with. All else on its page, such as that of the Python process, is
#: on this page already, of another process.
ENGINE_PREFIX = "vllm:"


class EngineMetrics(Protocol):
    """What can be asked of an engine while it works."""

    def alive(self) -> bool:
        """Whether there is one, and it runs."""

    def metrics(self) -> str:
        """Its page; empty where it gives none in time."""


class EngineCollector(Collector):
    """Whether the engine runs, and its own metrics, passed on under their own names."""

    def __init__(self, engine: EngineMetrics) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Nothing of an engine that gives no page, or one that cannot be read."""
        up = names.ENGINE_UP.gauge()
        is_alive = self._engine.alive()
        up.add_metric([], float(is_alive))
        yield up
        if is_alive:
            yield from _passed_on(self._engine.metrics())


def _passed_on(page: str) -> list[Metric]:
    try:
        families = list(text_string_to_metric_families(page))
    except Exception:
        log.exception("the metrics of the engine cannot be read")
        return []
    return [
        family
        for family in families
        # The times of first use: one more series per series.
        if family.name.startswith(ENGINE_PREFIX) and not family.name.endswith("_created")
    ]


def metrics_of_worker(settings: Settings, engine: EngineMetrics | None) -> CollectorRegistry:
    """What the page of a worker is made of; one without runs has no engine."""
    engines: Iterable[Collector] = [EngineCollector(engine)] if engine else []
    return registry_of(
        ProcessCollector(Where.WORKER), InstallationCollector(settings.home), *engines
    )


def _in_one_format(page: Any) -> Any:
    """The page in Prometheus' plain text, whatever is asked for.

    In OpenMetrics, which Prometheus prefers, the client library writes ``vllm_`` for ``vllm:``.
    """

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        environ.pop("HTTP_ACCEPT", None)
        return page(environ, start_response)

    return answer


def serve_metrics(settings: Settings, registry: CollectorRegistry) -> WSGIServer:
    """Serve the page on the first free port of those configured, from a thread.

    Raises:
        GateError: none is free, or the address is none of this machine.
    """
    host, first = settings.worker_metrics_host, settings.worker_metrics_port
    ports = range(first, min(first + settings.worker_metrics_ports, 65536))
    for port in ports:
        try:
            server, _thread = start_http_server(port, host, registry)
            server.set_app(_in_one_format(server.get_app()))
        except OSError as error:
            log.debug("no metrics at %s:%d: %s", host, port, error)
            why = error
            continue
        PROCESS_STARTED.set_to_current_time()
        log.info("metrics are at http://%s:%d/metrics", host, port)
        return server
    raise GateError(
        f"no metrics can be served on {host}, ports {ports[0]} to {ports[-1]} ({why}): set "
        "GATE_WORKER_METRICS_PORT, GATE_WORKER_METRICS_PORTS or GATE_WORKER_METRICS_HOST"
    )
