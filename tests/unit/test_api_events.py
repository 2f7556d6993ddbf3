"""Events of a submission: told from the database, resumed, ended, bounded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy.exc import OperationalError
from sse_starlette import ServerSentEvent
from unit.api_client import Api, problem
from unit.builders import DIGESTS, evidence, measurement, policy

from gate.api.events import follow
from gate.api.listeners import Listeners
from gate.api.problems import ProblemError
from gate.policy import Condition
from gate.store.events import News
from gate.submission import Progress, State
from gate.verdict import decide

VERDICT = decide(
    policy(Condition(check="a", at_most=0.2)), evidence(measurement("a", 0.3, 0.4)), DIGESTS
)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path, events_poll_seconds=0.01, events_heartbeat_seconds=0.05)


def events_of(page: str) -> list[dict[str, Any]]:
    """The events of a stream: id, event and parsed data."""
    told = []
    for block in page.replace("\r\n", "\n").split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":")
        )
        if fields:
            told.append({**fields, "data": json.loads(fields["data"])})
    return told


def read(api: Api, submission_id: str, after: object = None) -> Any:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    return api.client.get(f"/v1/submissions/{submission_id}/events", headers=headers)


def test_every_move_is_told_in_order_and_the_stream_ends_with_the_submission(api: Api) -> None:
    made = api.create()
    api.record.move(made.id, State.PREPARING)
    api.record.conclude(made.id, VERDICT)
    answer = read(api, made.id)
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events_of(answer.text)
    assert [(e["event"], e["data"]["state"], e["data"]["outcome"]) for e in told] == [
        ("state", "queued", None),
        ("state", "preparing", None),
        ("state", "decided", "fail"),
    ]
    assert [int(e["id"]) for e in told] == sorted({int(e["id"]) for e in told})


def test_a_listener_that_comes_back_is_told_what_it_has_missed(api: Api) -> None:
    made, other = api.create(), api.create()
    api.record.move(made.id, State.PREPARING)
    api.record.move(other.id, State.PREPARING)
    api.record.move(made.id, State.FAILED, error="the engine died")
    first = events_of(read(api, made.id).text)
    rest = events_of(read(api, made.id, after=first[0]["id"]).text)
    assert rest == first[1:]
    assert rest[-1]["data"]["error"] == "the engine died"


@pytest.mark.parametrize("after", ["last", 2**63 - 1])
def test_who_has_been_told_the_end_hears_nothing_more(api: Api, after: object) -> None:
    made = api.create()
    api.record.move(made.id, State.CANCELLED)
    last = events_of(read(api, made.id).text)[-1]["id"]
    assert events_of(read(api, made.id, after=last if after == "last" else after).text) == []


@pytest.mark.parametrize("after", ["-1", "x", 2**63, ""])
def test_a_last_event_id_that_is_none_is_refused(api: Api, after: object) -> None:
    made = api.create()
    problem(read(api, made.id, after=after), 422, "invalid-request")


def test_events_of_an_unknown_submission_are_a_404_problem(api: Api) -> None:
    problem(read(api, "sub_nope"), 404, "unknown-submission")


def listen(
    look: Callable[[int], News], react: Callable[[ServerSentEvent], object], after: int = 0
) -> list[ServerSentEvent]:
    """All events of a stream; after each one something else happens."""

    async def collect() -> list[ServerSentEvent]:
        told = []
        stream: AsyncIterator[ServerSentEvent] = follow(look, Listeners(), after, 0.001)
        async for event in stream:
            told.append(event)
            react(event)
        return told

    return anyio.run(collect)


def test_progress_is_told_when_it_changes_until_the_end(api: Api) -> None:
    made = api.create()
    steps: Iterator[Callable[[], object]] = iter(
        [
            lambda: api.record.note_progress(made.id, Progress(done=1, total=2, what="samples")),
            lambda: api.record.note_progress(made.id, Progress(done=2, total=2, what="samples")),
            lambda: api.record.move(made.id, State.CANCELLED),
            lambda: None,
        ]
    )
    told = listen(lambda n: api.record.events.since(made.id, n), lambda _: next(steps)())
    assert [e.event for e in told] == ["state", "progress", "progress", "state"]
    assert told[2].data is not None
    assert json.loads(told[2].data) == {"done": 2, "total": 2, "what": "samples"}


def test_a_stream_outlives_a_database_that_is_away_for_a_moment(api: Api) -> None:
    made = api.create()
    api.record.move(made.id, State.CANCELLED)
    away = iter([True, True, False])

    def look(number: int) -> News:
        if next(away):
            raise OperationalError("SELECT", {}, Exception("server closed the connection"))
        news: News = api.record.events.since(made.id, number)
        return news

    assert len(listen(look, lambda _: None)) == 2


def test_no_connection_is_held_while_a_listener_waits(api: Api) -> None:
    made = api.create()
    pool = api.record._engine.pool
    held = []

    def react(event: ServerSentEvent) -> None:
        held.append(pool.checkedout())
        api.record.move(made.id, State.CANCELLED)

    listen(lambda n: api.record.events.since(made.id, n), react)
    assert held == [0, 0]


def test_there_are_only_so_many_listeners() -> None:
    listeners = Listeners()
    with listeners.one_more(2), listeners.one_more(2):
        with pytest.raises(ProblemError) as refused, listeners.one_more(2):
            pass
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "5"})
    assert listeners.count == 0


def test_one_listener_too_many_is_answered_with_a_problem(api: Api) -> None:
    made = api.create()
    api.record.move(made.id, State.CANCELLED)
    api.parts.listeners.count = api.settings.events_listeners
    answer = read(api, made.id)
    problem(answer, 503, "too-many-listeners")
    assert answer.headers["retry-after"] == "5"
    api.parts.listeners.count = 0
    assert read(api, made.id).status_code == 200
    assert api.parts.listeners.count == 0
