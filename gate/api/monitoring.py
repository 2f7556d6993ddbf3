"""Routes of the service itself: what it is, whether it answers, its metrics."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gate.api.schemas import ServiceView

router = APIRouter(tags=["monitoring"])

NAME = "em-gate"


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
    """All metrics of this process, and those that are read from the record."""
    of_record = request.app.state.metrics_of_record
    page = generate_latest() + generate_latest(of_record)
    return Response(page, media_type=CONTENT_TYPE_LATEST)


@router.get("/health", summary="Whether the API answers")
def health() -> dict[str, str]:
    """Says nothing of the database: a process that is alive is not restarted for it."""
    return {"status": "ok"}
