"""Asking an engine: drawing answers, scoring given ones, and swapping its weights."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
from structlog.contextvars import get_contextvars

from checks.sample import Elicitation, Mode, Sample
from gate.errors import EngineError
from workers.engine.chat_tokens import ChatTokenizer
from workers.engine.command import MODEL_NAME

#: Samples are handed on in groups of at most this many, so that a kill loses few.
HAND_ON_EVERY = 16
#: The longest answer that is kept, in characters; the rest of a runaway answer is cut.
LONGEST_TEXT = 100_000
#: How often requests in flight look whether they are still wanted, in seconds.
LOOK_SECONDS = 0.2
#: How long a connection that is not used is kept, in seconds.
KEEP_ALIVE_SECONDS = 5.0
T = TypeVar("T")


def no_interruption() -> None:
    """What is asked where nothing can interrupt."""


class EngineClient:
    """Talks to one engine over its Unix socket.

    An engine that dies answers every request with 500 or not at all; both raise
    :class:`~gate.errors.EngineError`. While requests are in flight, ``require`` is asked again and
    again; when it raises, they are dropped, which makes the engine abort them.
    """

    def __init__(
        self,
        socket: Path,
        tokenizer: ChatTokenizer,
        seconds: float,
        concurrency: int,
        require: Callable[[], None] = no_interruption,
    ) -> None:
        self._socket = socket
        self._require = require
        self.tokenizer = tokenizer
        self._seconds = seconds
        self._concurrency = concurrency
        #: The served name to ask: the base, or an adapter beside it.
        self.model = MODEL_NAME

    def elicit(
        self, elicitations: Sequence[Elicitation], hand_on: Callable[[list[Sample]], None]
    ) -> None:
        """Put all elicitations to the engine, many at once; hand samples on as they come.

        Raises:
            EngineError: the engine failed; samples handed on before are good.
        """
        self._complete(self._elicit(elicitations, hand_on))

    async def _elicit(
        self, elicitations: Sequence[Elicitation], hand_on: Callable[[list[Sample]], None]
    ) -> None:
        gate = asyncio.Semaphore(self._concurrency)
        ready: list[Sample] = []

        async with self._http() as http:

            async def ask(elicitation: Elicitation) -> Sample:
                async with gate:
                    if elicitation.mode is Mode.LIKELIHOOD:
                        return await self._score(http, elicitation)
                    return await self._answer(http, elicitation)

            asked = [asyncio.create_task(ask(elicitation)) for elicitation in elicitations]
            try:
                for finished in asyncio.as_completed(asked):
                    ready.append(await finished)
                    if len(ready) >= HAND_ON_EVERY:
                        hand_on(ready)
                        ready = []
            finally:
                for task in asked:
                    task.cancel()
                await asyncio.gather(*asked, return_exceptions=True)
                if ready:
                    hand_on(ready)

    def token_log_likelihoods(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """Log-likelihoods (nats) of all tokens but the first of each text, one text at a time.

        One at a time because the numbers depend a little on what shares the batch.
        """

        async def score_all() -> list[float]:
            async with self._http() as http:
                return [n for ids in texts for n in await self._prompt_logprobs(http, ids)]

        return self._complete(score_all())

    def swap_weights(self, directory: Path) -> None:
        """Load another checkpoint of the same architecture into the running engine."""
        self._post(
            "/collective_rpc",
            {"method": "reload_weights", "kwargs": {"weights_path": str(directory)}},
        )
        self._post("/reset_prefix_cache", None)

    def load_adapter(self, name: str, directory: Path) -> None:
        """Load a LoRA adapter beside the weights that are served (CUDA)."""
        self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(directory)})
        self.model = name

    def unload_adapter(self) -> None:
        """Drop the adapter that is loaded, if one is."""
        if self.model != MODEL_NAME:
            self._post("/v1/unload_lora_adapter", {"lora_name": self.model})
            self.model = MODEL_NAME

    def _post(self, path: str, body: dict[str, Any] | None) -> None:
        async def post() -> None:
            async with self._http() as http:
                await self._request(http, path, body)

        self._complete(post())

    def _complete(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(self._watched(work))

    async def _watched(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=LOOK_SECONDS))[0]:
                self._require()
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _answer(self, http: httpx.AsyncClient, elicitation: Elicitation) -> Sample:
        sampling = elicitation.sampling
        answer = await self._request(
            http,
            "/v1/chat/completions",
            {
                "model": self.model,
                "messages": [message.model_dump() for message in elicitation.messages],
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_tokens,
            },
        )
        choice = answer["choices"][0]
        return Sample(
            elicitation=elicitation,
            text=(choice["message"]["content"] or "")[:LONGEST_TEXT],
            tokens=answer["usage"]["completion_tokens"],
            finish_reason=choice["finish_reason"] or "unknown",
        )

    async def _score(self, http: httpx.AsyncClient, elicitation: Elicitation) -> Sample:
        given = elicitation.given_answer or ""
        tokens = self.tokenizer.answer_tokens(elicitation.messages, given)
        numbers = await self._prompt_logprobs(http, tokens.ids)
        scored = numbers[tokens.start - 1 : tokens.end - 1]
        return Sample(
            elicitation=elicitation,
            text=given,
            tokens=len(scored),
            finish_reason="scored",
            log_likelihood=min(0.0, sum(scored) / len(scored)),
        )

    async def _prompt_logprobs(self, http: httpx.AsyncClient, ids: Sequence[int]) -> list[float]:
        answer = await self._request(
            http,
            "/v1/completions",
            {
                "model": self.model,
                "prompt": list(ids),
                "max_tokens": 1,
                "temperature": 0,
                "prompt_logprobs": 0,
            },
        )
        entries = answer["choices"][0]["prompt_logprobs"]
        return [
            float(entry[str(token)]["logprob"])
            for token, entry in zip(ids[1:], entries[1:], strict=True)
        ]

    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=str(self._socket),
                limits=httpx.Limits(
                    max_connections=self._concurrency, keepalive_expiry=KEEP_ALIVE_SECONDS
                ),
            ),
            base_url="http://engine",
            timeout=httpx.Timeout(self._seconds, connect=10),
        )

    async def _request(
        self, http: httpx.AsyncClient, path: str, body: dict[str, Any] | None
    ) -> dict[str, Any]:
        try:
            response = await http.post(path, json=body, headers={"X-Request-Id": _request_id()})
            response.raise_for_status()
            answer: dict[str, Any] = response.json() if _is_json(response) else {}
        except httpx.HTTPStatusError as error:
            said = error.response.text[:300]
            raise EngineError(
                f"the engine answered {path} with {error.response.status_code}: {said}"
            ) from error
        except (httpx.TransportError, ValueError) as error:
            name = type(error).__name__
            raise EngineError(f"the engine gave no answer to {path}: {name} {error}") from error
        return answer


def _request_id() -> str:
    """By which the engine calls a request in its log and traces: the submission, and a number."""
    submission = get_contextvars().get("submission", "gate")
    return f"{submission}-{uuid.uuid4().hex[:16]}"


def _is_json(response: httpx.Response) -> bool:
    return str(response.headers.get("content-type", "")).startswith("application/json")
