"""Route of a submission's events, as server-sent events read from the database."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated

import anyio
from fastapi import APIRouter, Header
from sqlalchemy.exc import SQLAlchemyError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from gate.api.listeners import Listeners
from gate.api.parts import FoundSubmission, PartsOfApp
from gate.api.problems import problem_responses
from gate.api.schemas import StateEvent
from gate.store.events import Move, News
from gate.submission import TERMINAL, Progress

log = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/submissions", tags=["submissions"])

LastEventId = Annotated[
    int,
    Header(
        alias="Last-Event-ID",
        ge=0,
        le=2**63 - 1,
        description="Id of the last event that was received; later ones follow.",
    ),
]


_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "description": "Of `state` only; for `Last-Event-ID`."},
        "event": {"enum": ["state", "progress"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "`state`: state, at, outcome, error. `progress`: done, total, what.",
        },
    },
}


class CountedStream(EventSourceResponse):
    """An event stream that counts as a listener from its first byte to its last."""

    def __init__(
        self,
        content: AsyncIterator[ServerSentEvent],
        listeners: Listeners,
        most: int,
        heartbeat_seconds: float,
    ) -> None:
        super().__init__(content, ping=heartbeat_seconds, headers={"Cache-Control": "no-store"})
        self._listeners = listeners
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, unless there are too many of them."""
        with self._listeners.one_more(self._most):
            await super().__call__(scope, receive, send)


@router.get(
    "/{submission_id}/events",
    response_class=EventSourceResponse,
    responses=problem_responses(404, 503)
    | {
        200: {
            "description": "Events `state` (with ids) and `progress`; ends with the submission.",
            "content": {"text/event-stream": {"itemSchema": _EVENT}},
        }
    },
    summary="Follow its state and progress (server-sent events)",
)
async def events(
    submission: FoundSubmission, parts: PartsOfApp, last_event_id: LastEventId = 0
) -> CountedStream:
    """Every move of the state from the first, or from after `Last-Event-ID`, and progress.

    The stream ends after the state in which the submission ends.
    """
    settings = parts.settings
    look = partial(parts.submissions.events.since, submission.id)
    return CountedStream(
        follow(look, parts.listeners, last_event_id, settings.events_poll_seconds),
        parts.listeners,
        settings.events_listeners,
        settings.events_heartbeat_seconds,
    )


async def follow(
    look: Callable[[int], News], listeners: Listeners, after: int, poll_seconds: float
) -> AsyncIterator[ServerSentEvent]:
    """Events until the submission ends.

    Between two looks nothing is held, neither a thread nor a connection. While the database does
    not answer, nothing is new.
    """
    shown: Progress | None = None
    while True:
        try:
            news = await listeners.read(partial(look, after))
        except SQLAlchemyError as error:
            log.warning("a listener waits for the database: %s", type(error).__name__)
        else:
            for move in news.moves:
                yield state_event(move, news)
                after = move.number
                if move.state in TERMINAL:
                    return
            if news.ended:
                return
            if news.progress is not None and news.progress != shown:
                shown = news.progress
                yield ServerSentEvent(event="progress", data=shown.model_dump_json())
        await anyio.sleep(poll_seconds)


def state_event(move: Move, news: News) -> ServerSentEvent:
    """One move; outcome and error are those of the submission, once it has ended."""
    told = StateEvent(state=move.state, at=move.at)
    if move.state in TERMINAL:
        told = told.model_copy(update={"outcome": news.outcome, "error": news.error})
    return ServerSentEvent(event="state", id=str(move.number), data=told.model_dump_json())
