"""Following a submission to its end: events as they come, polling when the stream breaks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from httpx_sse import SSEError

from gate.client.api import GateClient, view_of
from gate.client.errors import BrokenGateError, RefusedError, UnreachableError, WaitedTooLongError
from gate.client.models import ENDED

#: Between two looks when there is no stream, in seconds.
POLL_SECONDS = 2.0
#: How long a gate may stay away before a wait is given up, in seconds; a restart takes less.
AWAY_SECONDS = 300.0


@dataclass
class Follower:
    """Follows one submission.

    ``timeout`` is in seconds from the first look; None waits as long as it takes.
    """

    client: GateClient
    submission_id: str
    timeout: float | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _last_id: str | None = field(default=None, init=False)
    _streams: bool = field(default=True, init=False)

    def views(self) -> Iterator[dict[str, Any]]:
        """The submission whenever it changed; the last one has ended.

        Raises:
            WaitedTooLongError: it had not ended in time.
            UnreachableError, BrokenGateError: the gate stayed away.
            RefusedError: there is no such submission, or it may not be seen.
        """
        deadline = None if self.timeout is None else self.clock() + self.timeout

        def limit() -> None:
            if deadline is not None and self.clock() >= deadline:
                raise WaitedTooLongError(
                    f"submission {self.submission_id} had not ended after {self.timeout:g} s; it "
                    f"goes on: emgate status {self.submission_id}"
                )

        while True:
            view = self._look(limit)
            yield view
            if view_of(view).ended:
                return
            limit()
            if self._streams:
                yield from self._stream(view, limit)
            if not self._streams:
                self.sleep(POLL_SECONDS)

    def _look(self, limit: Callable[[], None]) -> dict[str, Any]:
        patient_until = self.clock() + AWAY_SECONDS
        while True:
            try:
                return self.client.submission(self.submission_id)
            except (UnreachableError, BrokenGateError):
                if self.clock() >= patient_until:
                    raise
                limit()
                self.sleep(POLL_SECONDS)

    def _stream(self, view: dict[str, Any], limit: Callable[[], None]) -> Iterator[dict[str, Any]]:
        """Changes by the events until the stream ends or breaks."""
        came = False
        try:
            with self.client.events(self.submission_id, self._last_id, limit) as source:
                for event in source.iter_sse():
                    limit()
                    came = True
                    if event.event == "state":
                        self._last_id = event.id or self._last_id
                        view = view | json.loads(event.data) | {"progress": None}
                    elif event.event == "progress":
                        view = view | {"progress": json.loads(event.data)}
                    else:
                        continue
                    if view["state"] in ENDED:
                        # The record has the last word, and more than the event says.
                        return
                    yield view
        except (RefusedError, SSEError):
            # This gate has no stream, or a proxy in between spoils it.
            self._streams = False
        except (httpx.TransportError, httpx.StreamError, BrokenGateError, ValueError, TypeError):
            self.sleep(POLL_SECONDS)
        else:
            if not came:
                self.sleep(POLL_SECONDS)
