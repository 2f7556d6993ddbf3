"""The client of the API: retries, cursors, following, uploads; the API is a fake."""

from __future__ import annotations

import base64
import hashlib
import os
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fakes.fake_api import ID, FakeApi, event, problem, stream, view
from pydantic import SecretStr

from gate.api.problems import KEY_IN_USE
from gate.client.api import GateClient
from gate.client.errors import (
    BrokenGateError,
    RefusedError,
    UnreachableError,
    WaitedTooLongError,
)
from gate.client.following import Follower
from gate.client.packing import packed
from gate.client.retrying import ATTEMPTS, retry_after
from gate.client.settings import ClientSettings
from gate.errors import WrongUsageError

SECRET = "emg_1_secret"
HERE = f"/v1/submissions/{ID}"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi()
    real = httpx.Client
    monkeypatch.setattr(
        httpx, "Client", lambda **options: real(**options, transport=httpx.MockTransport(fake))
    )
    return fake


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(api: FakeApi, waits: list[float]) -> GateClient:
    return GateClient(ClientSettings(url="http://gate", api_key=SecretStr(SECRET)), waits.append)


def test_a_submit_that_is_repeated_carries_the_same_key(api: FakeApi, client: GateClient) -> None:
    lost = httpx.ReadError("reset")
    api.on("POST /v1/submissions", lost, problem(503, "later"), httpx.Response(202, json=view()))
    assert client.submit({"checkpoint": "/x"})["id"] == ID
    keys = [request.headers["idempotency-key"] for request in api.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_two_submits_carry_different_keys(api: FakeApi, client: GateClient) -> None:
    api.on("POST /v1/submissions", httpx.Response(202, json=view()))
    client.submit({})
    client.submit({})
    assert len({request.headers["idempotency-key"] for request in api.requests}) == 2


def test_retry_after_is_waited_for(api: FakeApi, client: GateClient, waits: list[float]) -> None:
    limited = problem(429, "slow down", **{"retry-after": "7"})
    api.on(f"GET {HERE}", limited, httpx.Response(200, json=view()))
    client.submission(ID)
    assert waits == [7.0]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("100000", 60.0),
        ("Tue, 24 Nov 2026 20:00:05 GMT", 5.0),
        ("Tue, 24 Nov 2026 19:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_both_forms_of_retry_after_are_read_and_bounded(value: str, seconds: float | None) -> None:
    now = datetime(2026, 11, 24, 20, 0, 0, tzinfo=UTC)
    assert retry_after(httpx.Response(503, headers={"retry-after": value}), now) == seconds


def test_a_gate_that_stays_away_is_given_up(api: FakeApi, client: GateClient) -> None:
    api.on(f"GET {HERE}", httpx.ConnectError("refused"))
    with pytest.raises(UnreachableError, match="no gate answers at http://gate: refused"):
        client.submission(ID)
    assert len(api.requests) == ATTEMPTS


def test_a_gate_that_stays_busy_is_broken_and_a_500_is_not_repeated(
    api: FakeApi, client: GateClient
) -> None:
    api.on(f"GET {HERE}", problem(503, "no room"))
    with pytest.raises(BrokenGateError, match="503: no room"):
        client.submission(ID)
    api.requests.clear()
    api.on(f"GET {HERE}", problem(500, "bug"))
    with pytest.raises(BrokenGateError, match="500: bug"):
        client.submission(ID)
    assert len(api.requests) == 1


def test_a_refusal_is_told_in_its_own_words(api: FakeApi, client: GateClient) -> None:
    api.on("POST /v1/submissions", problem(403, "/etc is not under a checkpoint root"))
    with pytest.raises(RefusedError, match="not under a checkpoint root") as caught:
        client.submit({})
    assert caught.value.status == 403


@pytest.mark.parametrize("content", ["<html>hello</html>", "[1]", ""])
def test_what_is_no_gate_is_said_to_be_none(api: FakeApi, client: GateClient, content: str) -> None:
    api.on(f"GET {HERE}", httpx.Response(200, text=content))
    with pytest.raises(UnreachableError, match="not a gate"):
        client.submission(ID)


def test_the_key_is_sent_and_never_shown(api: FakeApi, client: GateClient) -> None:
    api.on(f"GET {HERE}", problem(401, "unknown key"))
    with pytest.raises(RefusedError) as caught:
        client.submission(ID)
    assert api.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(ClientSettings.model_validate({"api_key": SECRET}))


@pytest.mark.parametrize("odd", ["../keys", "a/b", "a?x=1", "", "ä"])
def test_an_id_cannot_lead_to_another_route(api: FakeApi, client: GateClient, odd: str) -> None:
    with pytest.raises(RefusedError, match="not the id"):
        client.submission(odd)
    assert api.requests == []


def test_lists_follow_the_cursor_up_to_the_limit(api: FakeApi, client: GateClient) -> None:
    pages = [{"items": [view()] * 2, "next_cursor": "b"}, {"items": [view()] * 2}]
    api.on("GET /v1/submissions", *(httpx.Response(200, json=page) for page in pages))
    assert len(list(client.submissions({"state": "queued", "metadata": ["a:b"]}, 3))) == 3
    first, second = (dict(request.url.params) for request in api.requests)
    assert first == {"state": "queued", "metadata": "a:b", "limit": "3"}
    assert second["cursor"] == "b"


def test_a_cancel_that_was_repeated_and_came_through_is_no_error(
    api: FakeApi, client: GateClient
) -> None:
    api.on(f"POST {HERE}/cancel", problem(409, "it has ended"))
    api.on(f"GET {HERE}", httpx.Response(200, json=view("cancelled")))
    assert client.cancel(ID)["state"] == "cancelled"
    api.on(f"GET {HERE}", httpx.Response(200, json=view("decided")))
    with pytest.raises(RefusedError, match="it has ended"):
        client.cancel(ID)


def test_a_retry_that_is_repeated_carries_the_same_key(api: FakeApi, client: GateClient) -> None:
    anew = httpx.Response(202, json=view(id="0198c1f3"))
    api.on(f"POST {HERE}/retry", httpx.ReadError("reset"), anew)
    assert client.retry(ID)["id"] == "0198c1f3"
    first, second = (request.headers["idempotency-key"] for request in api.requests)
    assert first == second


def test_a_key_that_is_still_being_answered_is_waited_for(api: FakeApi, client: GateClient) -> None:
    conflict = httpx.Response(409, json={"type": KEY_IN_USE.type, "detail": "try again"})
    api.on("POST /v1/submissions", conflict, httpx.Response(202, json=view()))
    assert client.submit({"checkpoint": "/x"})["id"] == ID
    assert len(api.requests) == 2


def follower(client: GateClient, timeout: float | None = None) -> Follower:
    ticks = iter(range(1000))
    return Follower(client, ID, timeout, clock=lambda: float(next(ticks)), sleep=lambda _: None)


def test_following_takes_up_a_broken_stream_after_the_last_event(
    api: FakeApi, client: GateClient
) -> None:
    progress = {"done": 1, "total": 4, "what": "samples"}
    states = [httpx.Response(200, json=view(s)) for s in ("queued", "sampling", "decided")]
    api.on(f"GET {HERE}", *states)
    api.on(
        f"GET {HERE}/events",
        stream(event("state", {"state": "sampling"}, 17), event("progress", progress)),
        stream(event("state", {"state": "decided"}, 18)),
    )
    seen = list(follower(client).views())
    states_seen = ["queued", "sampling", "sampling", "sampling", "decided"]
    assert [v["state"] for v in seen] == states_seen
    assert seen[2]["progress"] == progress
    streams = [r for r in api.requests if r.url.path.endswith("/events")]
    assert [r.headers.get("last-event-id") for r in streams] == [None, "17"]


@pytest.mark.parametrize(
    "answer", [problem(404, "no such route"), httpx.Response(200, text="<html>")]
)
def test_without_a_stream_it_polls(
    api: FakeApi, client: GateClient, answer: httpx.Response
) -> None:
    states = [httpx.Response(200, json=view(s)) for s in ("queued", "serving", "failed")]
    api.on(f"GET {HERE}", *states).on(f"GET {HERE}/events", answer)
    seen = [v["state"] for v in follower(client).views()]
    assert seen == ["queued", "serving", "failed"]


def test_a_wait_that_is_too_long_says_how_to_follow_on(api: FakeApi, client: GateClient) -> None:
    api.on(f"GET {HERE}", httpx.Response(200, json=view()))
    with pytest.raises(WaitedTooLongError, match=f"it goes on: emgate status {ID}"):
        list(follower(client, timeout=5).views())


def test_the_time_runs_out_within_a_stream_of_keepalives(api: FakeApi, client: GateClient) -> None:
    api.on(f"GET {HERE}", httpx.Response(200, json=view()))
    api.on(f"GET {HERE}/events", stream(*[": ping\n\n"] * 3))
    with pytest.raises(WaitedTooLongError):
        list(follower(client, timeout=2).views())


def test_an_upload_is_a_tar_with_its_digest_and_says_how_far_it_is(
    api: FakeApi, client: GateClient, tmp_path: Path
) -> None:
    directory = checkpoint(tmp_path)
    uri = {"checkpoint": "upload://sha256:" + "0" * 64, "size": 5, "files": 2}
    api.on("POST /v1/uploads", problem(503, "later"), httpx.Response(201, json=uri))
    sent: list[int] = []
    with packed(directory, lambda _: None) as archive:
        assert client.upload(archive.path, archive.sha256, sent.append) == uri["checkpoint"]
        with tarfile.open(archive.path) as read:
            assert read.getnames() == ["config.json", "sub/x"]
    for request in api.requests:
        digest = base64.b64encode(hashlib.sha256(request.content).digest()).decode()
        assert request.headers["content-digest"] == f"sha-256=:{digest}:"
        assert "content-length" in request.headers
    assert sent[-1] == len(api.requests[0].content)
    assert not archive.path.exists()


def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "sub").mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "sub" / "x").write_text("abc")
    return directory


def test_the_same_content_makes_the_same_archive(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path)
    digests = set()
    for time in (1, 2):
        os.utime(directory / "config.json", (time, time))
        with packed(directory, lambda _: None) as archive:
            digests.add(archive.sha256)
    assert len(digests) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: (d / "link").symlink_to("config.json"),
        lambda d: [f.unlink() for f in (d / "config.json", d / "sub" / "x")],
    ],
)
def test_links_and_empty_directories_are_not_packed(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    directory = checkpoint(tmp_path)
    spoil(directory)
    with pytest.raises(WrongUsageError), packed(directory, lambda _: None):
        pass
