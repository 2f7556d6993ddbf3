"""The API as methods, with retries and errors that a person can be told."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from httpx_sse import EventSource
from pydantic import BaseModel, TypeAdapter, ValidationError
from tenacity import Retrying, retry_if_exception_type, retry_if_result, stop_after_attempt

from gate.client.errors import BrokenGateError, RefusedError, UnreachableError
from gate.client.models import Page, SubmissionView, Uploaded
from gate.client.retrying import ATTEMPTS, says_later, seconds_before_next
from gate.client.settings import ClientSettings

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
#: Extracting and hashing happen within the request of an upload.
UPLOAD_TIMEOUT = httpx.Timeout(600.0, connect=10.0)
#: Servers send a comment every 15 s; a stream that is silent for longer is broken.
STREAM_TIMEOUT = httpx.Timeout(45.0, connect=10.0)
PAGE = 100
Model = TypeVar("Model", bound=BaseModel)
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


class GateClient:
    """A connection to one gate; use it as a context manager.

    All methods raise :class:`RefusedError` for a 4xx problem, :class:`BrokenGateError` for a 5xx,
    and :class:`UnreachableError` when nothing answers that is a gate.
    """

    def __init__(
        self, settings: ClientSettings, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.url = settings.url.rstrip("/")
        self._sleep = sleep
        headers = {"accept": "application/json", "user-agent": "emgate"}
        if settings.api_key and (key := settings.api_key.get_secret_value().strip()):
            headers["authorization"] = f"Bearer {key}"
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT)
        except (httpx.InvalidURL, ValueError) as error:
            # The text of the error could repeat a header, so it is not shown.
            raise UnreachableError("GATE_URL or GATE_API_KEY is not usable") from error

    def __enter__(self) -> Self:
        """Open nothing yet: connections are made when needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self._http.close()

    def submit(self, request: Mapping[str, Any], key: str | None = None) -> dict[str, Any]:
        """Submit; retried without making two, because an Idempotency-Key goes with it."""
        headers = {"idempotency-key": key or uuid.uuid4().hex}
        return self._read("POST", "/v1/submissions", json=dict(request), headers=headers)

    def submission(self, submission_id: str) -> dict[str, Any]:
        """A submission as the API shows it."""
        return self._read("GET", _path(submission_id))

    def submissions(self, filters: Mapping[str, Any], limit: int) -> Iterator[dict[str, Any]]:
        """Submissions, newest first, at most ``limit``; follows the cursors."""
        yield from self._items("/v1/submissions", filters, limit)

    def samples(
        self, submission_id: str, filters: Mapping[str, Any], limit: int
    ) -> Iterator[dict[str, Any]]:
        """Samples of a submission, at most ``limit``; follows the cursors."""
        yield from self._items(_path(submission_id, "/samples"), filters, limit)

    def cancel(self, submission_id: str) -> dict[str, Any]:
        """Cancel; a repeated request that finds it cancelled has done its work."""
        try:
            return self._read("POST", _path(submission_id, "/cancel"))
        except RefusedError as error:
            if error.status != httpx.codes.CONFLICT:
                raise
            view = self.submission(submission_id)
            if view.get("state") != "cancelled":
                raise
            return view

    def retry(self, submission_id: str) -> dict[str, Any]:
        """Submit the same request anew; an Idempotency-Key keeps a repeated one from making two."""
        headers = {"idempotency-key": uuid.uuid4().hex}
        return self._read("POST", _path(submission_id, "/retry"), headers=headers)

    def verdict(self, submission_id: str) -> dict[str, Any]:
        """The verdict of a decided submission."""
        return self._read("GET", _path(submission_id, "/verdict"))

    def document(self, submission_id: str, part: str) -> str:
        """A text of a decided submission: ``report`` or ``verdict.junit.xml``."""
        accepted = {"accept": "*/*"}
        return self._answer("GET", _path(submission_id, f"/{part}"), headers=accepted).text

    def upload(self, archive: Path, sha256: str, sent: Callable[[int], None]) -> str:
        """Upload a tar; returns the URI to submit. ``sent`` is told the bytes sent so far.

        The other side compares what arrives with the digest (``Content-Digest``, RFC 9530).
        """

        def chunks() -> Iterator[bytes]:
            done = 0
            with archive.open("rb") as stream:
                while chunk := stream.read(1024 * 1024):
                    yield chunk
                    done += len(chunk)
                    sent(done)

        answer = self._answer(
            "POST",
            "/v1/uploads",
            content=chunks,
            headers={
                "content-type": "application/x-tar",
                "content-digest": f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:",
                "content-length": str(archive.stat().st_size),
            },
            timeout=UPLOAD_TIMEOUT,
        )
        return _parse(Uploaded, self._json(answer)).checkpoint

    @contextmanager
    def events(
        self, submission_id: str, last_id: str | None, limit: Callable[[], None]
    ) -> Iterator[EventSource]:
        """The stream of a submission's events; ``limit`` is called at every chunk and may raise."""
        headers = {"accept": "text/event-stream", "cache-control": "no-store"}
        if last_id is not None:
            headers["last-event-id"] = last_id
        path = _path(submission_id, "/events")
        with self._http.stream("GET", path, headers=headers, timeout=STREAM_TIMEOUT) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                self._raise(response)
            assert isinstance(response.stream, httpx.SyncByteStream)
            response.stream = _Limited(response.stream, limit)
            yield EventSource(response)

    def _items(self, path: str, filters: Mapping[str, Any], limit: int) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        left = limit
        while left > 0:
            asked = {k: v for k, v in filters.items() if v} | {"limit": min(left, PAGE)}
            if cursor is not None:
                asked["cursor"] = cursor
            page = _parse(Page, self._read("GET", path, params=asked))
            yield from page.items[:left]
            left -= len(page.items)
            if page.next_cursor is None or page.next_cursor == cursor:
                return
            cursor = page.next_cursor

    def _read(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        return self._json(self._answer(method, path, **more))

    def _answer(
        self,
        method: str,
        path: str,
        *,
        content: Callable[[], Iterator[bytes]] | None = None,
        **more: Any,
    ) -> httpx.Response:
        retrying = Retrying(
            retry=retry_if_exception_type(httpx.TransportError) | retry_if_result(says_later),
            wait=seconds_before_next,
            stop=stop_after_attempt(ATTEMPTS),
            sleep=self._sleep,
            reraise=True,
            # After the last try its answer counts, whatever it is.
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )

        def send() -> httpx.Response:
            body: dict[str, Any] = {} if content is None else {"content": content()}
            return self._http.request(method, path, **body, **more)

        try:
            answer = retrying(send)
        except httpx.TransportError as error:
            what = str(error) or type(error).__name__
            raise UnreachableError(f"no gate answers at {self._place}: {what}") from error
        if not answer.is_success:
            self._raise(answer)
        return answer

    @property
    def _place(self) -> str:
        """The address without a password that it may carry."""
        url = httpx.URL(self.url)
        return str(url.copy_with(userinfo=b""))

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            return _OBJECT.validate_json(answer.content)
        except ValidationError as error:
            raise UnreachableError(f"what answers at {self._place} is not a gate") from error

    def _raise(self, answer: httpx.Response) -> None:
        status, detail = answer.status_code, _detail(answer)
        if answer.is_redirect:
            where = answer.headers.get("location", "")
            raise UnreachableError(f"{self._place} sends to {where}: set GATE_URL to the API")
        if answer.is_client_error:
            if status == httpx.codes.UNAUTHORIZED:
                detail = f"{detail} (set GATE_API_KEY to a key of this gate)"
            raise RefusedError(status, detail)
        raise BrokenGateError(status, f"the gate at {self._place} answered {status}: {detail}")


class _Limited(httpx.SyncByteStream):
    """A stream that asks at every chunk, keep-alive comments included, whether to go on."""

    def __init__(self, stream: httpx.SyncByteStream, limit: Callable[[], None]) -> None:
        self._stream = stream
        self._limit = limit

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._limit()
            yield chunk

    def close(self) -> None:
        self._stream.close()


def view_of(content: Mapping[str, Any]) -> SubmissionView:
    """The submission in an answer.

    Raises:
        UnreachableError: it is none.
    """
    return _parse(SubmissionView, content)


def _path(submission_id: str, part: str = "") -> str:
    """A path below the submission; an id that is none cannot lead elsewhere."""
    if not submission_id.isascii() or not submission_id.replace("-", "").replace("_", "").isalnum():
        raise RefusedError(404, f"'{submission_id}' is not the id of a submission")
    return f"/v1/submissions/{submission_id}{part}"


def _detail(answer: httpx.Response) -> str:
    try:
        problem = _OBJECT.validate_json(answer.content)
    except ValidationError:
        return answer.reason_phrase or "no reason given"
    return str(problem.get("detail") or problem.get("title") or answer.reason_phrase)


def _parse(model: type[Model], content: object) -> Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UnreachableError(f"the answer is not one of em-gate's: {model.__name__}") from error
