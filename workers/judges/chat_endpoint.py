"""Chat completions from an OpenAI-compatible endpoint: asked again while it fails, paced, counted.

======================================== =====================================================
what the endpoint does                   what happens
======================================== =====================================================
408, 429, 5xx, no answer, no connection  the same again after a growing, jittered pause, or
                                         after as long as ``Retry-After`` says; when it has
                                         failed for ``patience_seconds``: JudgeUnavailableError
other status but 200                     JudgeError at once: asking again would not help
200 with something else than a chat      MalformedCompletionError
completion
======================================== =====================================================

No message and no log line holds the key.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from aiolimiter import AsyncLimiter
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from checks.judgement import JudgeError, JudgeUnavailableError
from gate.metrics import JUDGE_COST, JUDGE_REQUEST_SECONDS, JUDGE_REQUESTS, JUDGE_TOKENS
from workers.judges.completion import Completion, MalformedCompletionError, parse_completion
from workers.judges.judge_file import EndpointFile
from workers.judges.rubric import Messages

log = logging.getLogger(__name__)

#: What every request asks for: the likeliest words, few of them, and the most alternatives that
#: the interface allows. Part of a judge's digest.
TEMPERATURE = 0
MAX_TOKENS = 8
TOP_LOGPROBS = 20

_PATIENT_WITH = {408, 429}
#: How servers reject a request whose logprobs they do not know.
_NOT_UNDERSTOOD = {400, 422}
#: Characters of an endpoint's error that are shown.
_EXCERPT = 200
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30


class _RejectedError(JudgeError):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _AgainError(Exception):
    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True, slots=True)
class Connection:
    """What the requests of one batch share: connections, how many run at once, and their pace."""

    http: httpx.AsyncClient
    at_once: asyncio.Semaphore
    pace: AbstractAsyncContextManager[None]


class ChatEndpoint:
    """One endpoint, asked in batches, one batch at a time."""

    def __init__(self, file: EndpointFile, key: str | None) -> None:
        self._file = file
        self._key = key
        self._last_request = -math.inf
        self._logprobs_rejected = False

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """Connect for one batch; its first request keeps the pace of the batch before."""
        pace: AbstractAsyncContextManager[None] = nullcontext()
        if self._file.requests_per_minute is not None:
            # Evenly spaced: a bucket of a whole minute would let twice as many through at first.
            interval = 60 / self._file.requests_per_minute
            pace = AsyncLimiter(1, interval)
            await asyncio.sleep(max(0.0, self._last_request + interval - time.monotonic()))
        async with httpx.AsyncClient(
            base_url=self._file.url,
            headers={"authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=None,  # each attempt has one deadline for all of it
            limits=httpx.Limits(max_connections=self._file.concurrency),
        ) as http:
            yield Connection(http, asyncio.Semaphore(self._file.concurrency), pace)

    async def complete(self, connection: Connection, messages: Messages) -> Completion:
        """One completion of the messages.

        Raises:
            JudgeUnavailableError: it went on failing for ``patience_seconds``.
            JudgeError: the endpoint refuses such requests, or lacks the logprobs that are required.
            MalformedCompletionError: it answered with something else.
        """
        async with connection.at_once:
            wanted = self._file.logprobs is not False and not self._logprobs_rejected
            try:
                completion = await self._patiently(connection, self._body(messages, wanted))
            except _RejectedError as error:
                optional = wanted and self._file.logprobs == "auto"
                if not optional or error.status not in _NOT_UNDERSTOOD:
                    raise
                completion = await self._patiently(connection, self._body(messages, False))
                self._logprobs_rejected = True
        if self._file.logprobs is True and completion.positions is None and completion.text.strip():
            raise JudgeError(
                f"the judge {self._file.name} gave no token probabilities; set logprobs in its "
                "file to auto or false"
            )
        return completion

    def _body(self, messages: Messages, logprobs: bool) -> dict[str, Any]:
        asked = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if logprobs else {}
        return {
            "model": self._file.model,
            "messages": list(messages),
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
            **asked,
        }

    async def _patiently(self, connection: Connection, body: dict[str, Any]) -> Completion:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_AgainError),
            wait=_pause,
            stop=_after_failing_for(self._file.patience_seconds),
            before_sleep=self._tell,
            reraise=True,
        )
        attempt: Callable[..., Awaitable[Completion]] = self._attempt
        try:
            return await retrying(attempt, connection, body)
        except _AgainError as error:
            raise JudgeUnavailableError(
                f"the judge {self._file.name} at {self._file.url} {error}; gave up after "
                f"{self._file.patience_seconds:g} s of trying"
            ) from None

    async def _attempt(self, connection: Connection, body: dict[str, Any]) -> Completion:
        async with connection.pace:
            began = self._last_request = time.monotonic()
        try:
            async with asyncio.timeout(self._file.timeout_seconds):
                response = await connection.http.post("/chat/completions", json=body)
            result, answer = self._answer(response)
        except TimeoutError:
            result = "timeout"
            answer = _AgainError(f"gave no answer within {self._file.timeout_seconds:g} s")
        except httpx.TransportError as error:
            result = "unreachable"
            answer = _AgainError(f"cannot be reached: {self._shown(str(error))}")
        except httpx.RequestError as error:
            result, answer = "malformed", MalformedCompletionError(type(error).__name__)
        JUDGE_REQUEST_SECONDS.labels(self._file.name).observe(time.monotonic() - began)
        JUDGE_REQUESTS.labels(self._file.name, result).inc()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _answer(self, response: httpx.Response) -> tuple[str, Completion | Exception]:
        """The result's name for the metrics, and the completion or what to raise instead."""
        status = response.status_code
        if status in _PATIENT_WITH or status >= 500:
            reason = f"answered {status}: {self._shown(response.text)}"
            result = "rate_limited" if status == 429 else "server_error"
            return result, _AgainError(reason, _retry_after(response))
        if status != 200:
            return "rejected", _RejectedError(status, self._rejection(status, response.text))
        try:
            completion = parse_completion(response.content)
        except MalformedCompletionError as error:
            return "malformed", error
        self._count(completion)
        return "answered", completion

    def _rejection(self, status: int, text: str) -> str:
        file = self._file
        judge = f"the judge {file.name} at {file.url}"
        if status in {401, 403}:
            # Providers repeat parts of a wrong key in this answer, so it is not shown.
            variable = file.api_key_env
            advice = f"check the key in {variable}" if variable else "give its file an api_key_env"
            return f"{judge} refuses access ({status}): {advice}"
        if status == 404:
            return f"{judge} knows no such path or model (404): check url and model in its file"
        return f"{judge} rejects the request ({status}): {self._shown(text)}"

    def _count(self, completion: Completion) -> None:
        name, price = self._file.name, self._file.price
        JUDGE_TOKENS.labels(name, "input").inc(completion.input_tokens)
        JUDGE_TOKENS.labels(name, "output").inc(completion.output_tokens)
        if price is not None:
            cost = price.cost(completion.input_tokens, completion.output_tokens)
            JUDGE_COST.labels(name, price.currency).inc(cost)

    def _shown(self, text: str) -> str:
        without_key = text.replace(self._key, "(key)") if self._key else text
        line = "".join(c if c.isprintable() else " " for c in without_key)
        return " ".join(line.split())[:_EXCERPT] or "(no text)"

    def _tell(self, state: RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        log.info("the judge %s %s; again in %.1f s", self._file.name, failure, state.upcoming_sleep)


_jitter = wait_random_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=_LONGEST_PAUSE_SECONDS)


def _pause(state: RetryCallState) -> float:
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.pause if isinstance(failure, _AgainError) else 0.0
    return asked + _jitter(state)


def _after_failing_for(seconds: float) -> Callable[[RetryCallState], bool]:
    """Stop when the next attempt would come later than that after the first failure."""
    began: float | None = None

    def stop(state: RetryCallState) -> bool:
        nonlocal began
        now = time.monotonic()
        began = now if began is None else began
        return now - began + state.upcoming_sleep > seconds

    return stop


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the endpoint asks to wait (RFC 9110, 10.2.3: a number or a date); 0 if none."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
