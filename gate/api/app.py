"""The API application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
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
from gate.api.admission import Admission
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


#: Calls that one process works on at once, those that wait for a slow database among them.
THREADS = 40


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    """Threads for the calls; at the end, waits for what the audit log writes later."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "call"))
    yield
    admission: Admission = app.state.admission
    await asyncio.to_thread(admission.audit.settle)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the API on the settings given, or on those of the process."""
    settings = settings or settings_of_process()
    hooks_file = load_hooks(settings.hooks_file)
    database = open_database(settings.database)
    app = FastAPI(
        title="em-gate",
        version=version("em-gate"),
        description=DESCRIPTION.strip(),
        lifespan=_life,
    )
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
