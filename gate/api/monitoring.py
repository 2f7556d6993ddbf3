"""Routes of the service itself: what it is, whether it answers, its metrics."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from gate.api.schemas import ServiceView
from gate.hooks.config import Hooks
from gate.metrics.broker import BrokerCollector
from gate.metrics.catalogue import Where
from gate.metrics.page import (
    CONTENT_TYPE,
    InstallationCollector,
    ProcessCollector,
    registry_of,
    render,
)
from gate.metrics.reading_record import RecordCollector, readers
from gate.settings import Settings
from gate.tasks import TaskQueue

router = APIRouter(tags=["monitoring"])

NAME = "em-gate"


def metrics_of_api(
    settings: Settings, database: Engine, hooks: Hooks, queue: TaskQueue
) -> CollectorRegistry:
    """What the page of an API process is made of."""
    return registry_of(
        ProcessCollector(Where.API),
        InstallationCollector(settings.home),
        RecordCollector(readers(database, settings, hooks)),
        BrokerCollector(queue),
    )


@router.get("/", response_model=ServiceView, summary="Name, version and where to go")
def root() -> ServiceView:
    """What answers here."""
    return ServiceView(
        name=NAME,
        version=version(NAME),
        links={
            "submissions": "/v1/submissions",
            "policies": "/v1/policies",
            "batteries": "/v1/batteries",
            "openapi": "/openapi.json",
            "docs": "/docs",
            "health": "/health",
            "metrics": "/metrics",
        },
    )


@router.get("/metrics", response_class=PlainTextResponse, summary="Metrics for Prometheus")
def metrics(request: Request) -> Response:
    """Those of the API processes, and those that are read from the record."""
    registry: CollectorRegistry = request.app.state.metrics
    return Response(render(registry), media_type=CONTENT_TYPE)


@router.get("/health", summary="Whether the API answers")
def health() -> dict[str, str]:
    """Says nothing of the database: a process that is alive is not restarted for it."""
    return {"status": "ok"}
