"""Asking an engine for its own metrics over its socket, while it works or hangs."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

#: How long an engine may take for its page, in seconds; a scrape waits for it.
SECONDS = 2.0
#: The largest page that is taken, in bytes.
MOST_BYTES = 4 * 1024 * 1024


def own_metrics(socket: Path, seconds: float = SECONDS) -> str:
    """The page of the engine behind a socket; empty if it does not come whole and in time."""
    deadline = time.monotonic() + seconds
    page = bytearray()
    # There is no TLS on a socket; loading certificates for it would cost every scrape 60 ms of CPU.
    transport = httpx.HTTPTransport(uds=str(socket), verify=False)
    try:
        with (
            httpx.Client(transport=transport, timeout=seconds) as http,
            http.stream("GET", "http://engine/metrics") as answer,
        ):
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                page += chunk
                if len(page) > MOST_BYTES or time.monotonic() > deadline:
                    return ""
    except httpx.HTTPError:
        # It starts, is being stopped, or is busy: none of that is news here.
        return ""
    return page.decode(errors="replace")
