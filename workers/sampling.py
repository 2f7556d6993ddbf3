"""Sampling in a run: answers of one model to what is asked, stored as they come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from checks.sample import Elicitation, Sample
from gate.errors import EngineError
from gate.metrics import SAMPLES, TOKENS
from gate.store.transcripts import TranscriptRecord
from workers.checkpoint.preparation import Servable
from workers.engine.warm import WarmEngine

log = logging.getLogger(__name__)

Note = Callable[[int, int, str], None]


class Sampling:
    """Takes from an engine the samples that a transcript lacks."""

    def __init__(
        self, engine: WarmEngine, transcripts: TranscriptRecord, attempts: int, note: Note
    ) -> None:
        self._engine = engine
        self._transcripts = transcripts
        self._attempts = attempts
        self._note = note

    def take(
        self, servable: Servable, transcript: str, wanted: Sequence[Elicitation], role: str
    ) -> None:
        """Ask for every wanted elicitation that has no sample yet.

        An engine that dies is started again, a bounded number of times; what it gave stays.

        Raises:
            EngineError: the engine failed in the last attempt too.
        """
        for attempt in range(1, self._attempts + 1):
            missing = self._transcripts.missing(transcript, wanted)
            if not missing:
                return
            done = len(wanted) - len(missing)
            self._note(done, len(wanted), f"{role} samples")

            def store(samples: list[Sample]) -> None:
                nonlocal done
                self._transcripts.add(transcript, samples)
                done += len(samples)
                self._note(done, len(wanted), f"{role} samples")
                for sample in samples:
                    SAMPLES.labels(sample.elicitation.check, role).inc()
                    TOKENS.labels(sample.elicitation.check, role).inc(sample.tokens)

            try:
                self._engine.serve(servable).elicit(missing, store)
            except EngineError as error:
                explained = self._engine.explain(error)
                if attempt == self._attempts:
                    raise explained from error
                log.warning("%s; starting again", explained)
