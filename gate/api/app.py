"""The API application."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI

from gate.api import catalogue, checkpoints, events, monitoring, results, submissions
from gate.api.bodies import BodyLimit
from gate.api.openapi import install_openapi
from gate.api.parts import Parts
from gate.api.problems import install_problems
from gate.settings import Settings
from gate.settings import settings as settings_of_process
from gate.store.database import open_database
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
    database = open_database(settings.database)
    app = FastAPI(title="em-gate", version=version("em-gate"), description=DESCRIPTION.strip())
    app.state.parts = Parts(
        settings,
        SubmissionRecord(database),
        TranscriptRecord(database),
        TaskQueue(settings.broker_url),
    )
    app.add_middleware(BodyLimit, most_bytes=settings.api_body_bytes)
    install_problems(app)
    install_openapi(app)
    for router in (
        submissions.router,
        events.router,
        results.router,
        checkpoints.router,
        catalogue.router,
        monitoring.router,
    ):
        app.include_router(router)
    return app
