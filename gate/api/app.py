"""The API application."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gate.api import audit, waivers
from gate.api.access import install_access
from gate.api.hooks import router as hooks_router
from gate.api.parts import Parts
from gate.api.problems import install_problems
from gate.api.submissions import router
from gate.api.uploads import router as uploads
from gate.hooks.config import load_hooks
from gate.hooks.outbox import Outbox
from gate.hooks.receiving import HookDesk
from gate.settings import Settings
from gate.settings import settings as settings_of_process
from gate.store.database import open_database
from gate.store.received import ReceivedHooks
from gate.store.submissions import SubmissionRecord
from gate.store.transcripts import TranscriptRecord
from gate.tasks import TaskQueue

DESCRIPTION = """
Judges a fine-tuned checkpoint for emergent misalignment before it is deployed.

Submit a checkpoint, follow its state, then read the verdict: `pass`, `fail` or `inconclusive`,
with intervals and the thresholds that decided. A submission in state `failed` is one that the gate
could not judge; it is never a pass.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the API on the settings given, or on those of the process."""
    settings = settings or settings_of_process()
    hooks = load_hooks(settings.hooks_file)
    database = open_database(settings.database)
    app = FastAPI(title="em-gate", version=version("em-gate"), description=DESCRIPTION.strip())
    app.state.parts = Parts(
        settings,
        SubmissionRecord(database, Outbox.of(hooks)),
        TranscriptRecord(database),
        TaskQueue(settings.broker_url),
    )
    submissions = app.state.parts.submissions
    app.state.hooks = HookDesk(hooks, settings, submissions, ReceivedHooks(database))
    install_problems(app)
    app.include_router(router)
    app.include_router(uploads)
    app.include_router(hooks_router)
    app.include_router(waivers.router)
    app.include_router(audit.router)
    install_access(app, settings, database)
    of_record = waivers.metrics_of_record(database)

    @app.get("/metrics", tags=["monitoring"], summary="Metrics for Prometheus")
    def metrics() -> Response:
        return Response(
            generate_latest() + generate_latest(of_record), media_type=CONTENT_TYPE_LATEST
        )

    @app.get("/health", tags=["monitoring"], summary="Whether the API answers")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app
