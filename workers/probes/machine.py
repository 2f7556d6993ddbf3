"""Probes of the machine: interpreter, processor, memory, disk."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

import psutil

from gate.settings import Device, Settings
from workers.probes.finding import Finding, fail, ok, warn

GIB = 1024**3


def python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """The interpreter."""
    text = f"{version[0]}.{version[1]}"
    if (3, 11) <= version < (3, 13):
        return ok("python", text)
    return fail("python", text, "use Python 3.11 or 3.12")


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
