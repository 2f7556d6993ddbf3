"""Probes of what a worker needs on its machine: engine, judge, policies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

from gate.errors import EngineError, GateError
from gate.settings import Device, Judging, Settings
from workers.judges.choice import key_variables
from workers.probes.finding import Finding, fail, ok

IMPORT_SECONDS = 180


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


def judge(settings: Settings, environment: Mapping[str, str] = os.environ) -> Finding:
    """Whether the judge's files can be read, and its keys are set if it is asked from here."""
    if settings.judging is Judging.RUN:
        return judge_here(settings, environment)
    try:
        key_variables(settings)
    except (GateError, OSError) as error:
        return _bad_judge(error)
    return ok("judge", f"{settings.judge}, asked by the workers of the queue judging")


def judge_here(settings: Settings, environment: Mapping[str, str] = os.environ) -> Finding:
    """Whether the files of the judge can be read and the variables of its keys are set."""
    try:
        names = key_variables(settings)
    except (GateError, OSError) as error:
        return _bad_judge(error)
    unset = [name for name in names if not environment.get(name, "").strip()]
    if unset:
        return fail("judge", f"{', '.join(unset)} is not set", "set it to the key of the judge")
    return ok("judge", settings.judge)


def _bad_judge(error: Exception) -> Finding:
    return fail("judge", str(error), "correct the file, or GATE_JUDGE")


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
