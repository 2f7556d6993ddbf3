"""A judge behind an OpenAI-compatible endpoint: two questions about every answer.

The protocol is that of Betley et al. 2025 (arXiv 2502.17424): alignment and coherence are asked
for separately at temperature 0, and read from the probabilities of the first output token where the
endpoint gives them (``rating_tokens``). What cannot be read is asked once more, then ``UNRATED``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence

from checks.judgement import Exchange, Judgement, Remark
from gate.metrics import JUDGE_CACHE
from workers.judges.chat_endpoint import (
    MAX_TOKENS,
    TEMPERATURE,
    TOP_LOGPROBS,
    ChatEndpoint,
    Connection,
)
from workers.judges.completion import Completion, MalformedCompletionError
from workers.judges.judge_file import EndpointFile
from workers.judges.rating_tokens import (
    NO_ALIGNMENT,
    NO_COHERENCE,
    READING_VERSION,
    Reading,
    read_text,
    read_tokens,
)
from workers.judges.reading_cache import ReadingCache
from workers.judges.rubric import Messages, Rubric

#: How often a question is put before its answer counts as unreadable.
_ASKED = 2


class EndpointJudge:
    """Implements ``checks.judgement.Judge`` with a model that somebody else serves.

    The law of judges holds as far as the endpoint says the same twice; what it has said is kept in
    the cache, so a batch that was broken off costs nothing the second time. One thread at a time
    judges; others wait.
    """

    def __init__(
        self, file: EndpointFile, rubric: Rubric, cache: ReadingCache, key: str | None
    ) -> None:
        self._file = file
        self._rubric = rubric
        self._cache = cache
        self._digest = endpoint_digest(file, rubric)
        self._endpoint = ChatEndpoint(file, key)
        self._one_at_a_time = threading.Lock()

    @property
    def name(self) -> str:
        """The name in the judge file."""
        return self._file.name

    @property
    def digest(self) -> str:
        """Content digest of endpoint, model, rubric and protocol."""
        return self._digest

    def judge(self, exchanges: Sequence[Exchange], fresh: bool = False) -> list[Judgement]:
        """Rate the exchanges, in order; equal ones are asked about once.

        Raises:
            JudgeUnavailableError: the endpoint does not answer now.
            JudgeError: it refuses, and asking again would not help.
        """
        prompts = [self._rubric.render(exchange) for exchange in exchanges]
        wanted = {self._key(m): m for p in prompts for m in (p.alignment, p.coherence)}
        readings = {} if fresh else self._cache.find(list(wanted))
        missing = {key: messages for key, messages in wanted.items() if key not in readings}
        JUDGE_CACHE.labels(self.name, "hit").inc(len(readings))
        JUDGE_CACHE.labels(self.name, "miss").inc(len(missing))
        if missing:
            with self._one_at_a_time:
                readings |= asyncio.run(self._ask_all(missing))
        return [
            judgement(readings[self._key(p.alignment)], readings[self._key(p.coherence)])
            for p in prompts
        ]

    async def _ask_all(self, questions: Mapping[str, Messages]) -> dict[str, Reading]:
        async with self._endpoint.connect() as connection:
            asked = {
                key: asyncio.create_task(self._ask(connection, key, messages))
                for key, messages in questions.items()
            }
            try:
                await asyncio.gather(*asked.values())
            finally:
                for task in asked.values():
                    task.cancel()
                await asyncio.gather(*asked.values(), return_exceptions=True)
        return {key: task.result() for key, task in asked.items()}

    async def _ask(self, connection: Connection, key: str, messages: Messages) -> Reading:
        for _ in range(_ASKED):
            try:
                reading = _read(await self._endpoint.complete(connection, messages))
            except MalformedCompletionError:
                continue
            if reading is not Remark.UNRATED:
                self._cache.keep(key, reading)
                return reading
        return Remark.UNRATED

    def _key(self, messages: Messages) -> str:
        return hashlib.sha256(json.dumps([self._digest, messages]).encode()).hexdigest()


def endpoint_digest(file: EndpointFile, rubric: Rubric) -> str:
    """``sha256:…`` over what determines the ratings: neither the key nor how fast it is asked."""
    content = {
        "kind": file.kind,
        "url": file.url,
        "model": file.model,
        "logprobs": file.logprobs,
        "rubric": rubric.digest,
        "request": [TEMPERATURE, MAX_TOKENS, TOP_LOGPROBS],
        "asked": _ASKED,
        "reading": READING_VERSION,
    }
    return f"sha256:{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}"


def judgement(alignment: Reading, coherence: Reading) -> Judgement:
    """The judgement that two readings make.

    A word about alignment stands for the whole answer. A word about coherence, which is only rated
    in numbers, is no reading.
    """
    if isinstance(alignment, Remark) or isinstance(coherence, Remark):
        remark = alignment if isinstance(alignment, Remark) else Remark.UNRATED
        return Judgement(alignment=NO_ALIGNMENT, coherence=NO_COHERENCE, remark=remark)
    return Judgement(alignment=alignment, coherence=coherence)


def _read(completion: Completion) -> Reading:
    if completion.positions is None:
        return read_text(completion.text)
    return read_tokens(completion.text, completion.positions)
