"""What switches traces on, where a run's span belongs, and what no span says."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind

from gate.opentelemetry_traces import OnlyWithin, OpenTelemetryTraces, _hide_address, _hide_query
from gate.tracing import NoTraces, traces, wanted

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, None),
        ({ENDPOINT: ""}, None),
        ({ENDPOINT: "http://c:4318"}, ENDPOINT),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"}, None),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "false"}, ENDPOINT),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ),
    ],
)
def test_an_endpoint_switches_traces_on(environment: dict[str, str], variable: str | None) -> None:
    assert wanted(environment) == variable


def test_traces_that_are_off_say_nothing_and_let_errors_through() -> None:
    assert isinstance(traces(), NoTraces)
    assert (traces().ids(), traces().traceparent()) == (None, None)
    with pytest.raises(KeyError), traces().span("run", {"a": 1}, PARENT):  # noqa: PT012
        traces().note({"b": 2})
        raise KeyError


class InMemory(OpenTelemetryTraces):
    """Traces that are on in this test alone: no instrumentation, no export."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=OnlyWithin(ALWAYS_ON))
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self._tracer = provider.get_tracer("test")

    def client(self, name: str, **attributes: str) -> trace.Span:
        return self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)

    def named(self, name: str) -> ReadableSpan:
        (found,) = [s for s in self.exporter.get_finished_spans() if s.name == name]
        return found


@pytest.fixture
def on() -> InMemory:
    return InMemory()


def trace_of(span: ReadableSpan) -> str:
    return trace.format_trace_id(span.context.trace_id)


def test_a_run_belongs_to_the_trace_that_its_submission_came_with(on: InMemory) -> None:
    with on.span("task of another submission"), on.span("run", parent=PARENT):
        assert on.ids() is not None
        assert (on.traceparent() or "").split("-")[1] == TRACE
        with on.span("serving"):
            pass

    run, task = on.named("run"), on.named("task of another submission")
    assert trace_of(run) == trace_of(on.named("serving")) == TRACE
    assert trace_of(task) != TRACE
    assert run.parent is not None
    assert trace.format_span_id(run.parent.span_id) == "00f067aa0ba902b7"
    assert [link.context for link in run.links] == [task.context]


def test_a_run_that_its_own_task_called_is_below_the_task(on: InMemory) -> None:
    with on.span("task", parent=PARENT), on.span("run", parent=PARENT):
        pass
    run = on.named("run")
    assert run.parent == on.named("task").context
    assert list(run.links) == []


@pytest.mark.parametrize("parent", [None, "", "nonsense", f"00-{0:032}-{0:016}-01"])
def test_a_submission_without_a_trace_runs_in_one_of_its_own(
    on: InMemory, parent: str | None
) -> None:
    with on.span("run", parent=parent):
        pass
    assert on.named("run").parent is None


def test_an_error_marks_the_span_with_its_type_and_not_with_its_words(on: InMemory) -> None:
    with pytest.raises(ValueError, match="secret"), on.span("sampling"):
        raise ValueError("secret words of a model")
    span = on.named("sampling")
    assert span.status.description == "ValueError"
    assert "secret" not in span.to_json()


def test_statements_of_no_trace_make_none_and_those_of_a_run_are_in_it(on: InMemory) -> None:
    on.client("SELECT by a sweep").end()
    with on.span("run"):
        on.client("SELECT by the run").end()
    assert [s.name for s in on.exporter.get_finished_spans()] == ["SELECT by the run", "run"]


@pytest.mark.parametrize("name", ["http.url", "url.full"])
def test_of_other_hosts_only_the_name_is_in_a_span_and_of_the_engine_the_path(
    on: InMemory, name: str
) -> None:
    with on.span("run"):
        for address in (
            "https://user:pass@hooks.example:8443/services/T0/SECRET?sig=1",
            "http://engine/v1/chat/completions",
        ):
            span = on.client(f"POST {address[:12]}", **{name: address})
            _hide_address(span, None)  # type: ignore[arg-type]
            span.end()
    assert [(s.attributes or {}).get(name) for s in on.exporter.get_finished_spans()[:2]] == [
        "https://hooks.example/",
        "http://engine/v1/chat/completions",
    ]


def test_no_query_and_no_key_of_a_request_is_in_its_span(on: InMemory) -> None:
    key = "emg_0123456789ab_" + "ab" * 32
    with on.span("POST"):
        span = trace.get_current_span()
        span.set_attribute("http.url", f"http://gate/v1/{key}?token=t0k")
        span.set_attribute("http.target", "/v1/x?token=t0k")
        span.set_attribute("url.query", "token=t0k")
        _hide_query(span, {})
    told = on.named("POST").to_json()
    assert "t0k" not in told
    assert "ab" * 32 not in told
    assert '"http.target": "/v1/x"' in told
