"""Probes of the running service: record, broker, workers, API, and its clock."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from gate.errors import GateError
from gate.settings import Judging, Settings
from gate.tasks import ENGINE_QUEUE, JUDGING_QUEUE, celery_app
from workers.judge_queue.queued import REMEDY
from workers.probes.finding import Finding, fail, ok, warn

ASK_SECONDS = 3.0
CLOCK_SECONDS = 30.0


def database(settings: Settings) -> Finding:
    """Whether the record can be reached and has the tables of this version; changes nothing."""
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    from gate.store.database import metadata
    from gate.store.schema import Standing, require_current, standing

    try:
        url = make_url(settings.database)
        shown = url.render_as_string(hide_password=True)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
            return ok("database", f"{shown} will be made on first use")
        opened = create_engine(url)
        try:
            if standing(opened) is Standing.NEW:
                return ok("database", f"{shown} is empty; the tables will be made on first use")
            require_current(opened)
            tables = inspect(opened)
            there = {
                n: {c["name"] for c in tables.get_columns(n)} for n in tables.get_table_names()
            }
        finally:
            opened.dispose()
    except GateError as error:
        return fail("database", str(error), "as it says")
    except (SQLAlchemyError, ImportError) as error:
        what = str(error).splitlines()[0]
        return fail("database", what, "start it, or set GATE_DATABASE_URL")
    missing = sorted(
        name
        for name, table in metadata().tables.items()
        if {c.name for c in table.columns} - there.get(name, set())
    )
    if missing:
        found = f"{shown} lacks {', '.join(missing)} of this version"
        return fail("database", found, "bring it up to this version, or set GATE_DATABASE_URL")
    return ok("database", shown)


def broker(settings: Settings) -> Finding:
    """Whether the broker answers."""
    from kombu.exceptions import OperationalError

    connection = celery_app(settings.broker_url).connection_for_write()
    shown = connection.as_uri()
    try:
        connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=ASK_SECONDS)
    except (OSError, OperationalError) as error:
        return fail("broker", f"{shown}: {error}", "start it, or set GATE_BROKER_URL")
    finally:
        connection.release()
    return ok("broker", shown)


def worker(settings: Settings, reached: bool) -> Finding:
    """Whether a worker of runs answers through the broker, if that was reached."""
    if not reached:
        return fail("worker", "cannot be asked without the broker", "mend the broker first")
    found = _listening(settings, ENGINE_QUEUE)
    if not found:
        return fail("worker", "none answers", "start one: emgate worker")
    return ok("worker", ", ".join(found))


def judging(settings: Settings, reached: bool) -> Finding:
    """Whether a worker rates answers, where that is not done in the run."""
    if settings.judging is Judging.RUN:
        return ok("judging", "in the run")
    if not reached:
        return fail("judging", "cannot be asked without the broker", "mend the broker first")
    found = _listening(settings, JUDGING_QUEUE)
    if not found:
        return fail("judging", "no worker listens on the queue judging", REMEDY)
    return ok("judging", ", ".join(found))


def _listening(settings: Settings, queue: str) -> list[str]:
    """Names of the workers that take tasks of a queue."""
    app = celery_app(settings.broker_url)
    with app.connection_for_write() as connection:
        inspect = app.control.inspect(timeout=ASK_SECONDS, connection=connection)
        asked = inspect.active_queues()
    return sorted(
        name for name, queues in (asked or {}).items() if queue in {each["name"] for each in queues}
    )


def api(url: str) -> tuple[Finding, datetime | None]:
    """Whether the API answers, and what time it has."""
    shown = str(httpx.URL(url).copy_with(userinfo=b""))
    remedy = "start it: emgate serve, or set GATE_URL"
    try:
        answer = httpx.get(f"{url.rstrip('/')}/health", timeout=ASK_SECONDS)
    except httpx.TransportError as error:
        return fail("api", f"{shown}: {error}", remedy), None
    try:
        when = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        when = None
    if answer.status_code != httpx.codes.OK:
        return fail("api", f"{shown} answers {answer.status_code}", remedy), when
    return ok("api", shown), when


def clock(elsewhere: datetime | None, now: datetime | None = None) -> Finding:
    """The clock beside that of the API."""
    now = now or datetime.now(UTC)
    if elsewhere is None:
        return ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, not compared")
    off = abs((now - elsewhere).total_seconds())
    text = f"{off:.0f} s beside the API"
    if off > CLOCK_SECONDS:
        return warn("clock", text, "synchronise the clocks (NTP)")
    return ok("clock", text)
