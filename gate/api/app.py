"""The API application."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI

from gate.api import (
    audit,
    catalogue,
    checkpoints,
    events,
    hooks,
    monitoring,
    results,
    submissions,
    uploads,
    waivers,
)
from gate.api.access import install_access
from gate.api.bodies import BodyLimit
from gate.api.http_metrics import HttpMetrics
from gate.api.openapi import install_openapi
from gate.api.parts import Parts
from gate.api.problems import install_problems
from gate.api.requests import RequestContext
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
    hooks_file = load_hooks(settings.hooks_file)
    database = open_database(settings.database)
    app = FastAPI(title="em-gate", version=version("em-gate"), description=DESCRIPTION.strip())
    app.state.parts = Parts(
        settings,
        SubmissionRecord(database, Outbox.of(hooks_file)),
        TranscriptRecord(database),
        TaskQueue(settings.broker_url),
    )
    received = ReceivedHooks(database)
    app.state.hooks = HookDesk(hooks_file, settings, app.state.parts.submissions, received)
    queue = app.state.parts.queue
    app.state.metrics = monitoring.metrics_of_api(settings, database, hooks_file, queue)
    app.add_middleware(BodyLimit, most_bytes=settings.api_body_bytes)
    install_problems(app)
    install_openapi(app)
    for router in (
        submissions.router,
        events.router,
        results.router,
        checkpoints.router,
        catalogue.router,
        uploads.router,
        hooks.router,
        waivers.router,
        audit.router,
        monitoring.router,
    ):
        app.include_router(router)
    # Around all of it, so that nothing is read of what is not admitted.
    install_access(app, settings, database)
    # Outermost: what is refused is counted and has its id too.
    app.add_middleware(HttpMetrics)
    app.add_middleware(RequestContext)
    return app
