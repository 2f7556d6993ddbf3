"""A worker for soak runs: the real one, but for how it knows what the fake engine should answer.

The reference log-likelihoods come from the fake engine's own little Llama, and the tokens and the
look at the chat template from the bare tokenizer file, so that a worker that is killed every few
seconds does not import torch and transformers each time. Nothing that a soak run is about (queue,
lease, record, run, engine process) is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fakes.fake_llama import FakeLlama
from tokenizers import Tokenizer

from gate.settings import LogLevel
from workers.checkpoint import inspection
from workers.cli.worker import worker
from workers.engine import warm
from workers.engine.fingerprint import Fingerprint


@lru_cache(maxsize=4)
def _read(file: Path) -> Tokenizer:
    return Tokenizer.from_file(str(file))


class BareTokenizer:
    """Token ids of plain text, by the tokenizer file alone; the template is taken for good."""

    def __init__(self, directory: Path) -> None:
        self._tokenizer = _read(directory / "tokenizer.json")

    def vocabulary_size(self) -> int:
        size: int = self._tokenizer.get_vocab_size()
        return size

    def text_ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def answer_tokens(self, _messages: object, _answer: str) -> None:
        """Nothing is scored in a soak."""


def cheap_reference(
    directory: Path, texts: Sequence[Sequence[int]], _adapter: Path | None = None
) -> Fingerprint:
    llama = FakeLlama.load(directory)
    return Fingerprint(tuple(n for ids in texts for n in llama.log_likelihoods(ids)))


if __name__ == "__main__":
    for module, name, cheap in (
        (inspection, "ChatTokenizer", BareTokenizer),
        (warm, "ChatTokenizer", BareTokenizer),
        (warm, "reference_fingerprint", cheap_reference),
    ):
        setattr(module, name, cheap)
    worker(queues="engine", log_level=LogLevel.INFO)
