"""Submissions per second of the API, beside a bare endpoint that inserts one row.

Same database, same server and settings, same client; the two take turns, so that whatever else the
machine does falls on both.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fakes.gate import settings_for

from bench.soak import private_temporary
from workers.local_service import LocalService

BARE = Path(__file__).with_name("bare_app.py")
CLIENTS = 8


@dataclass(frozen=True)
class RateResult:
    """Requests per second of each turn."""

    api: list[float]
    bare: list[float]

    @property
    def ratio(self) -> float:
        """Median of the API over median of the bare endpoint."""
        return statistics.median(self.api) / statistics.median(self.bare)


def rate(
    home: Path, base: Path, tokenizer: Path, turns: int, requests: int, database_url: str = ""
) -> RateResult:
    """Measure both, ``turns`` times ``requests`` each, after one turn that does not count."""
    body = {"checkpoint": str(base), "base": str(base), "policy": "default"}
    settings = settings_for(home, [base.parent], tokenizer).model_copy(
        update={"database_url": database_url}
    )
    api: list[float] = []
    bare: list[float] = []
    with (
        private_temporary(),
        LocalService(settings, worker=False) as local,
        _bare(local) as bare_url,
    ):
        for turn in range(turns + 1):
            both = [(api, f"{local.url}/v1/submissions"), (bare, f"{bare_url}/rows")]
            for speeds, url in both if turn % 2 else reversed(both):
                speeds.append(asyncio.run(_post(url, body, requests)))
    return RateResult(api[1:], bare[1:])


async def _post(url: str, body: dict[str, str], requests: int) -> float:
    waiting = iter(range(requests))
    async with httpx.AsyncClient(timeout=120) as client:

        async def one_after_another() -> None:
            for _ in waiting:
                (await client.post(url, json=body)).raise_for_status()

        began = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(CLIENTS)))
        return requests / (time.perf_counter() - began)


@contextmanager
def _bare(local: LocalService) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (local.logs / "bare.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(BARE)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **local.environment(), "GATE_API_PORT": str(port)},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(f"{url}/health").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)
