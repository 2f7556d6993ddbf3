"""What may be wrong with an installation: one small probe each. None starts an engine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path

import httpx
import psutil
from pydantic import BaseModel

from gate.errors import EngineError, GateError
from gate.settings import Device, Settings

GIB = 1024**3
IMPORT_SECONDS = 180
ASK_SECONDS = 3.0
CLOCK_SECONDS = 30.0


class Health(StrEnum):
    """How a part is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(BaseModel):
    """What a probe found, and what to do about it."""

    name: str
    health: Health
    found: str
    remedy: str = ""


def ok(name: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(name=name, health=Health.OK, found=found)


def warn(name: str, found: str, remedy: str) -> Finding:
    """It works, but."""
    return Finding(name=name, health=Health.WARN, found=found, remedy=remedy)


def fail(name: str, found: str, remedy: str) -> Finding:
    """The gate cannot work like this."""
    return Finding(name=name, health=Health.FAIL, found=found, remedy=remedy)


def python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """The interpreter."""
    text = f"{version[0]}.{version[1]}"
    if (3, 11) <= version < (3, 13):
        return ok("python", text)
    return fail("python", text, "use Python 3.11 or 3.12")


def engine(settings: Settings, timeout: float = IMPORT_SECONDS) -> Finding:
    """Whether vLLM can be imported, in a process of its own, and sees the device."""
    from workers.engine.command import engine_identity

    try:
        identity = engine_identity(settings)
    except EngineError as error:
        return fail("engine", str(error), f"make env DEVICE={settings.device}")
    if settings.engine_command:
        found = shutil.which(settings.engine_command[0])
        if found is None:
            return fail("engine", f"no program {settings.engine_command[0]}", "GATE_ENGINE_COMMAND")
        return ok("engine", f"replaced by {found}")
    code = "import torch, vllm; print(int(torch.cuda.is_available()))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return fail("engine", f"{identity}: no import within {timeout:g} s", "look at the machine")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it died"])[-1]
        return fail("engine", f"{identity}: {last}", f"make env DEVICE={settings.device}")
    if settings.device is Device.CUDA and done.stdout.split()[-1:] != ["1"]:
        return fail("engine", f"{identity}: torch sees no GPU", "check the driver (nvidia-smi)")
    return ok("engine", identity)


def processor(settings: Settings, cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """The vector instructions that vLLM needs on a CPU."""
    if settings.device is Device.CUDA or settings.engine_command:
        return ok("processor", "the engine does not compute on it")
    if platform.machine() != "x86_64":
        return warn("processor", platform.machine(), "only x86_64 was tested")
    try:
        flags = set(cpuinfo.read_text().split())
    except OSError as error:
        return warn("processor", str(error), "make sure that it has AVX2 or AVX-512")
    if "avx512f" in flags:
        return ok("processor", "AVX-512")
    if "avx2" in flags:
        return warn("processor", "AVX2 without AVX-512", "vLLM will be slower")
    return fail("processor", "neither AVX-512 nor AVX2", "use another machine or GATE_DEVICE=cuda")


def memory(settings: Settings, available: int | None = None) -> Finding:
    """Free memory for engine, cache and judge, in bytes."""
    free = psutil.virtual_memory().available if available is None else available
    need = settings.engine_kv_cache_gib + 3
    text = f"{free / GIB:.1f} GiB available"
    if free >= need * GIB:
        return ok("memory", text)
    return warn("memory", text, f"a small model needs about {need} GiB; lower the KV cache")


def disk(settings: Settings, free: int | None = None) -> Finding:
    """Whether GATE_HOME can be written, and its free bytes."""
    place = settings.home
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return fail("disk", f"{place} cannot be written", "set GATE_HOME to a folder of yours")
    free = shutil.disk_usage(place).free if free is None else free
    text = f"{free / GIB:.1f} GiB free at {settings.home}"
    if free < GIB:
        return fail("disk", text, "make room: merged checkpoints are written there")
    return warn("disk", text, "make room soon") if free < 10 * GIB else ok("disk", text)


def shared_memory(size: int | None = None, place: Path = Path("/dev/shm")) -> Finding:
    """The size of shared memory, in bytes; containers give 64 MiB."""
    if size is None:
        if not place.is_dir():
            return warn("shared memory", f"there is no {place}", "mount it")
        size = shutil.disk_usage(place).total
    text = f"{size / GIB:.2f} GiB"
    if size < GIB:
        return warn("shared memory", text, "run the container with --shm-size=2g")
    return ok("shared memory", text)


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

    from gate.tasks import celery_app

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
    """Whether a worker answers through the broker, if that was reached."""
    from gate.tasks import celery_app

    if not reached:
        return fail("worker", "cannot be asked without the broker", "mend the broker first")
    answers = celery_app(settings.broker_url).control.inspect(timeout=ASK_SECONDS).ping()
    if not answers:
        return fail("worker", "none answers", "start one: emgate worker")
    return ok("worker", ", ".join(sorted(answers)))


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


def judge(settings: Settings, environment: Mapping[str, str] = os.environ) -> Finding:
    """Whether the files of the judge can be read and the variables of its keys are set."""
    from workers.judges.choice import ensemble_members
    from workers.judges.judge_file import EMBEDDED, EndpointFile, read_judge_file

    if settings.judge == EMBEDDED:
        return ok("judge", EMBEDDED)
    try:
        path = Path(settings.judge)
        file = read_judge_file(path)
        files = (
            [file]
            if isinstance(file, EndpointFile)
            else [member for _, member in ensemble_members(path, file).values()]
        )
    except (GateError, OSError) as error:
        return fail("judge", str(error), "correct the file, or GATE_JUDGE")
    names = [f.api_key_env for f in files if f.api_key_env]
    unset = [name for name in names if not environment.get(name, "").strip()]
    if unset:
        return fail("judge", f"{', '.join(unset)} is not set", "set it to the key of the judge")
    return ok("judge", settings.judge)


def policies(settings: Settings) -> Finding:
    """Whether every policy and its battery can be loaded."""
    from checks.battery import BatteryError, load_battery, shipped_batteries
    from gate.policy import load_policy, policy_names

    found, wrong = policy_names(settings.policy_directories), []
    for name in found:
        try:
            load_battery(load_policy(name, settings.policy_directories).battery)
        except (GateError, BatteryError, OSError) as error:
            wrong.append(str(error))
    for name in shipped_batteries():
        try:
            load_battery(name)
        except BatteryError as error:
            wrong.append(str(error))
    if wrong:
        return fail("policies", "; ".join(wrong), "correct the files")
    return ok("policies", ", ".join(found))


def examine(settings: Settings, url: str) -> list[Finding]:
    """All probes; one that breaks is a finding too."""
    found: dict[str, Finding] = {}

    def probe(name: str, ask: Callable[[], Finding]) -> None:
        try:
            found[name] = ask()
        except Exception as error:  # noqa: BLE001 (the doctor must come to the end)
            what = f"{type(error).__name__}: {error}"
            found[name] = fail(name, what, "this is a bug of the probe or a broken library")

    times: list[datetime | None] = []

    def ask_api() -> Finding:
        finding, when = api(url)
        times.append(when)
        return finding

    probe("python", python)
    probe("engine", lambda: engine(settings))
    probe("processor", lambda: processor(settings))
    probe("memory", lambda: memory(settings))
    probe("disk", lambda: disk(settings))
    probe("shared memory", shared_memory)
    probe("database", lambda: database(settings))
    probe("broker", lambda: broker(settings))
    probe("worker", lambda: worker(settings, found["broker"].health is Health.OK))
    probe("api", ask_api)
    probe("judge", lambda: judge(settings))
    probe("policies", lambda: policies(settings))
    probe("clock", lambda: clock(times[0] if times else None))
    return list(found.values())
