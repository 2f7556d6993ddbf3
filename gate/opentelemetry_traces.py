"""Traces by OpenTelemetry's SDK and its standard instrumentations, exported over OTLP/HTTP.

Endpoint, headers, sampling, batching and limits are read by the SDK from ``OTEL_…`` variables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor, RequestInfo
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes as OtelAttributes

from gate.access.keys import redact
from gate.tracing import Attributes

if TYPE_CHECKING:
    from fastapi import FastAPI
    from sqlalchemy import Engine

#: Probes, scrapes, and streams that stay open for hours.
NOT_TRACED = "/health$,/metrics$,/events$"
#: Attributes with an address, in the old and the new semantic conventions.
_ADDRESSES = ("http.url", "url.full", "http.target", "url.path")
_QUERIES = ("url.query",)
#: What is stored with a submission, whatever OTEL_PROPAGATORS says of requests and tasks.
_W3C = TraceContextTextMapPropagator()


class OnlyWithin(Sampler):
    """Lets another sampler decide, save for statements and requests of no trace.

    They come from what workers look for again and again; each would be a trace of its own.
    """

    def __init__(self, other: Sampler) -> None:
        self._other = other

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: OtelAttributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Drop client spans without a parent."""
        parent = trace.get_current_span(parent_context).get_span_context()
        if kind is SpanKind.CLIENT and not parent.is_valid:
            return SamplingResult(Decision.DROP)
        return self._other.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """Name of this sampler, and the other's."""
        return f"OnlyWithin({self._other.get_description()})"


class OpenTelemetryTraces:
    """Traces that are on, for the whole process."""

    def __init__(self, service: str) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME") or service
        provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: name, SERVICE_VERSION: version("em-gate")})
        )
        # Built without one, the provider takes the sampler that OTEL_TRACES_SAMPLER names.
        provider.sampler = OnlyWithin(provider.sampler)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
        self._tracer = trace.get_tracer("emgate", version("em-gate"))
        CeleryInstrumentor().instrument()  # type: ignore[no-untyped-call]
        HTTPXClientInstrumentor().instrument(
            request_hook=_hide_address, async_request_hook=_hide_address_async
        )

    def ids(self) -> tuple[str, str] | None:
        """Trace id and span id of now, in hexadecimal digits."""
        now = trace.get_current_span().get_span_context()
        if not now.is_valid:
            return None
        return trace.format_trace_id(now.trace_id), trace.format_span_id(now.span_id)

    def traceparent(self) -> str | None:
        """The span of now as a W3C ``traceparent``."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get("traceparent")

    @contextmanager
    def span(
        self, name: str, attributes: Attributes | None = None, parent: str | None = None
    ) -> Iterator[None]:
        """Record what is done inside; see :class:`gate.tracing.Traces`."""
        context, links = _place(parent)
        with self._tracer.start_as_current_span(
            name,
            context,
            attributes=attributes,
            links=links,
            # Their words may be a model's.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    def note(self, attributes: Attributes) -> None:
        """Add to the span of now."""
        trace.get_current_span().set_attributes(attributes)

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Leave out the requests and statements inside."""
        with suppress_instrumentation():
            yield

    def watch_api(self, app: FastAPI) -> None:
        """Record a span for every request to the app, probes, scrapes and streams apart."""
        FastAPIInstrumentor.instrument_app(
            app,
            excluded_urls=NOT_TRACED,
            exclude_spans=["receive", "send"],
            server_request_hook=_hide_query,
        )

    def watch_database(self, engine: Engine) -> None:
        """Record a span for every statement.

        The part of the instrumentation that does it: the whole wants greenlet from SQLAlchemy 2.1
        on, for asynchronous engines.
        """
        connections = NoOpMeter("emgate").create_up_down_counter("connections")
        EngineTracer(self._tracer, engine, connections)  # type: ignore[no-untyped-call]


def _place(parent: str | None) -> tuple[Context | None, list[Link]]:
    """Where a span belongs, and what it is linked to."""
    if parent is None:
        return None, []
    there = _W3C.extract({"traceparent": parent}, Context())
    its, ours = (trace.get_current_span(c).get_span_context() for c in (there, None))
    if not its.is_valid or its.trace_id == ours.trace_id:
        return None, []
    return there, [Link(ours)] if ours.is_valid else []


def _hide_query(span: Span, _scope: dict[str, Any]) -> None:
    """A query may hold anything, and a path a key that somebody put there."""
    _change(span, _ADDRESSES, lambda address: redact(address.partition("?")[0]))
    _change(span, _QUERIES, lambda _query: "")


def _hide_address(span: Span, _request: RequestInfo) -> None:
    """Of other hosts no more than their names: webhook and download addresses are secrets."""
    _change(span, _ADDRESSES, _without_path)


async def _hide_address_async(span: Span, request: RequestInfo) -> None:
    _hide_address(span, request)


def _without_path(address: str) -> str:
    parts = urlsplit(address)
    if parts.hostname == "engine":
        return address
    return f"{parts.scheme}://{parts.hostname}/"


def _change(span: Span, names: Sequence[str], change: Any) -> None:
    if isinstance(span, ReadableSpan) and span.attributes:
        for name in names:
            value = span.attributes.get(name)
            if isinstance(value, str):
                span.set_attribute(name, change(value))
