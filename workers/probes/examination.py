"""All probes, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gate.settings import Settings
from workers.probes import machine, parts, service
from workers.probes.finding import Finding, Health, fail


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
        finding, when = service.api(url)
        times.append(when)
        return finding

    probe("python", machine.python)
    probe("engine", lambda: parts.engine(settings))
    probe("processor", lambda: machine.processor(settings))
    probe("memory", lambda: machine.memory(settings))
    probe("disk", lambda: machine.disk(settings))
    probe("shared memory", machine.shared_memory)
    probe("database", lambda: service.database(settings))
    probe("broker", lambda: service.broker(settings))
    probe("worker", lambda: service.worker(settings, found["broker"].health is Health.OK))
    probe("judging", lambda: service.judging(settings, found["broker"].health is Health.OK))
    probe("api", ask_api)
    probe("judge", lambda: parts.judge(settings))
    probe("policies", lambda: parts.policies(settings))
    probe("clock", lambda: service.clock(times[0] if times else None))
    return list(found.values())
