"""One engine that stays warm: it serves one checkpoint after another, and knows which."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gate.errors import EngineError
from gate.metrics import ENGINE_DEATHS, ENGINE_SWAPS
from gate.settings import Settings
from workers.checkpoint.preparation import Servable
from workers.engine.chat_tokens import ChatTokenizer
from workers.engine.client import EngineClient, no_interruption
from workers.engine.fingerprint import (
    FIXED_TEXTS,
    Fingerprint,
    reference_fingerprint,
    require_weights,
)
from workers.engine.log import passing_on
from workers.engine.own_metrics import own_metrics
from workers.engine.process import EngineProcess

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Serving:
    """What the engine serves now, and the numbers that prove it."""

    servable: Servable
    observed: Fingerprint
    reference: Fingerprint


class WarmEngine:
    """Owns at most one engine process.

    A checkpoint whose config, tokenizer and template agree with the running engine is swapped in;
    any other gets a fresh start. After each of both the weights are checked.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: EngineProcess | None = None
        self._client: EngineClient | None = None
        self._serving: _Serving | None = None
        self._references: dict[str, Fingerprint] = {}
        self._require_wanted: Callable[[], None] = no_interruption

    @contextmanager
    def interruptible(self, require: Callable[[], None]) -> Iterator[None]:
        """While it lasts, whatever this engine does ends with the error that ``require`` raises.

        What the engine writes meanwhile is logged with what is bound here.

        An engine that was interrupted in a start is stopped; one in a swap or in answering stays,
        and :meth:`serve` finds out what it can still be used for.
        """
        self._require_wanted = require
        try:
            with passing_on(lambda: self._process.lines if self._process else None):
                yield
        finally:
            self._require_wanted = no_interruption

    def _look(self) -> None:
        """A client outlives the submission that it was made in; this asks the one of now."""
        self._require_wanted()

    def serve(self, servable: Servable) -> EngineClient:
        """Make the engine serve these weights and return a client for it.

        Raises:
            EngineError: it cannot be started, or does not serve these weights.
        """
        self._require_wanted()
        self._forget_dead_engine()
        current, client = self._serving, self._client
        if client and current:
            if current.servable.digest == servable.digest:
                return client
            try:
                if self._can_swap(current.servable, servable):
                    return self._swap(client, current, servable)
            except EngineError as error:
                log.warning("a fresh engine starts, since the swap failed: %s", error)
                self.stop()
        return self._start(servable)

    def stop(self) -> None:
        """End the engine, if there is one."""
        if self._process:
            self._process.stop()
        self._process = self._client = self._serving = None

    def alive(self) -> bool:
        """Whether an engine runs; may be asked from any thread."""
        process = self._process
        return process is not None and process.alive()

    def metrics(self) -> str:
        """The running engine's own metrics; empty if it gives none. From any thread."""
        process = self._process
        return own_metrics(process.socket) if process else ""

    def explain(self, error: EngineError) -> EngineError:
        """Add the dead engine's own reason to an error, and let go of the engine."""
        process = self._process
        if process is None or process.healthy():
            return error
        ENGINE_DEATHS.inc()
        words = process.last_words()
        self.stop()
        return EngineError(f"the engine died: {words} ({error})")

    def _forget_dead_engine(self) -> None:
        if self._process and not self._process.healthy():
            ENGINE_DEATHS.inc()
            self.stop()

    def _can_swap(self, current: Servable, wanted: Servable) -> bool:
        return self._settings.swap_weights and current.signature == wanted.signature

    def _start(self, servable: Servable) -> EngineClient:
        self.stop()
        tokenizer = ChatTokenizer(servable.directory)
        self._process = EngineProcess.start(
            self._settings, servable.directory, self._require_wanted
        )
        client = EngineClient(
            self._process.socket,
            tokenizer,
            self._settings.engine_request_seconds,
            self._settings.engine_concurrency,
            self._look,
        )
        try:
            if servable.adapter:
                client.load_adapter(_adapter_name(servable.digest), servable.adapter)
            self._require(client, servable, before=None)
        except BaseException:
            self.stop()
            raise
        self._client = client
        log.info("started an engine for %s", servable.digest, extra=self._pid())
        return client

    def _pid(self) -> dict[str, int | None]:
        return {"engine_pid": self._process.lines.engine_pid if self._process else None}

    def _swap(self, client: EngineClient, current: _Serving, servable: Servable) -> EngineClient:
        self._serving = None
        client.unload_adapter()
        if current.servable.directory != servable.directory:
            client.swap_weights(servable.directory)
        if servable.adapter:
            client.load_adapter(_adapter_name(servable.digest), servable.adapter)
        ENGINE_SWAPS.inc()
        self._require(client, servable, before=(current.observed, current.reference))
        log.info("swapped the engine to %s", servable.digest, extra=self._pid())
        return client

    def _require(
        self,
        client: EngineClient,
        servable: Servable,
        before: tuple[Fingerprint, Fingerprint] | None,
    ) -> None:
        texts = [client.tokenizer.text_ids(text) for text in FIXED_TEXTS]
        observed = Fingerprint(tuple(client.token_log_likelihoods(texts)))
        reference = self._reference(
            servable, lambda: reference_fingerprint(servable.directory, texts, servable.adapter)
        )
        require_weights(observed, reference, self._settings.swap_tolerance, before)
        self._serving = _Serving(servable, observed, reference)

    def _reference(self, servable: Servable, compute: Callable[[], Fingerprint]) -> Fingerprint:
        if servable.digest not in self._references:
            self._references[servable.digest] = compute()
        return self._references[servable.digest]


def _adapter_name(digest: str) -> str:
    return "adapter-" + digest.removeprefix("sha256:")[:16]
