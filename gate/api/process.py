"""The API as one process serves it: its log, its traces and its application."""

from __future__ import annotations

import gc

from fastapi import FastAPI

from gate.api.app import create_app
from gate.logs import install_logs
from gate.metrics import PROCESS_STARTED
from gate.settings import settings
from gate.tracing import start_traces, traces

SERVICE = "emgate-api"


def app_of_process() -> FastAPI:
    """The application on the settings of this process; each of several processes makes its own.

    Raises:
        GateError: the database or the hooks file cannot be used.
    """
    current = settings()
    install_logs(SERVICE, current.log_format, current.log_level)
    start_traces(SERVICE)
    app = create_app(current)
    traces().watch_api(app)
    PROCESS_STARTED.set_to_current_time()
    # What is loaded by now stays; looking at it in every collection costs a busy API a tenth.
    gc.freeze()
    return app
