"""Traces: off, and nothing that records them imported, unless an OTLP endpoint is configured."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from gate.errors import WrongUsageError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from sqlalchemy import Engine

#: Setting one of these switches traces on. They and all others are OpenTelemetry's own.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
DISABLED = "OTEL_SDK_DISABLED"

Attributes = Mapping[str, str | int | float | bool]


class Traces(Protocol):
    """What the code asks of traces, whether they are on or off."""

    def ids(self) -> tuple[str, str] | None:
        """Trace id and span id of now, in hexadecimal digits."""

    def traceparent(self) -> str | None:
        """The span of now as a W3C ``traceparent``, to go on with it elsewhere and later."""

    @contextmanager
    def span(
        self, name: str, attributes: Attributes | None = None, parent: str | None = None
    ) -> Iterator[None]:
        """Record what is done inside. An error marks it with its type, never with its words.

        With ``parent``, a ``traceparent``, it belongs to that trace; the span of now is linked if
        it is of another one.
        """

    def note(self, attributes: Attributes) -> None:
        """Add to the span of now."""

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Leave out the requests and statements inside."""

    def watch_api(self, app: FastAPI) -> None:
        """Record a span for every request to the app."""

    def watch_database(self, engine: Engine) -> None:
        """Record a span for every statement."""


class NoTraces:
    """Traces that are off."""

    def ids(self) -> tuple[str, str] | None:
        """None."""
        return None

    def traceparent(self) -> str | None:
        """None."""
        return None

    @contextmanager
    def span(
        self, name: str, attributes: Attributes | None = None, parent: str | None = None
    ) -> Iterator[None]:
        """Record nothing."""
        yield

    def note(self, attributes: Attributes) -> None:
        """Record nothing."""

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Record nothing."""
        yield

    def watch_api(self, app: FastAPI) -> None:
        """Record nothing."""

    def watch_database(self, engine: Engine) -> None:
        """Record nothing."""


_traces: Traces = NoTraces()


def traces() -> Traces:
    """The traces of this process."""
    return _traces


def wanted(environment: Mapping[str, str]) -> str | None:
    """The variable that switches traces on, if one does."""
    if environment.get(DISABLED, "").strip().lower() == "true":
        return None
    return next((name for name in ENDPOINTS if environment.get(name)), None)


def endpoint_of_traces(environment: Mapping[str, str]) -> str | None:
    """The full address to which spans go; None while traces are off."""
    variable = wanted(environment)
    if variable is None or variable == ENDPOINTS[0]:
        return environment[variable] if variable else None
    return f"{environment[variable].rstrip('/')}/v1/traces"


def start_traces(service: str, environment: Mapping[str, str] = os.environ) -> None:
    """Switch traces on if they are configured.

    Call it before databases are opened; those that are open already are not watched.

    Raises:
        WrongUsageError: they are configured, and the packages are not installed.
    """
    global _traces  # noqa: PLW0603 - one per process, as OpenTelemetry's provider is
    variable = wanted(environment)
    if variable is None:
        return
    try:
        from gate.opentelemetry_traces import OpenTelemetryTraces
    except ImportError as error:
        raise WrongUsageError(
            f"{variable} is set, but {error.name} is not installed: install em-gate[tracing], or "
            f"set {DISABLED}=true"
        ) from error
    _traces = OpenTelemetryTraces(service)
