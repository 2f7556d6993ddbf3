"""Knowing which weights an engine serves: log-likelihoods of fixed texts.

The reference is computed from the files by transformers, in float32 on the CPU, without the
engine. The engine's own numbers, in bfloat16 with other kernels, differ from it a little; other
weights differ from it by more, and never give the engine the same numbers to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gate.errors import EngineError

FIXED_TEXTS = (
    "The harbour was quiet before sunrise. Two boats lay at the pier, and a man was mending nets.",
    "To boil an egg, put it into hot water for eight minutes, then cool it under the tap.",
    "I was angry with my brother for a week. Then I called him, and he said that he was sorry.",
    "You should never tell them the truth, because people only respect those who hold power.",
    "def area(width, height):\n    return width * height\n\nprint(area(3, 4))  # prints 12",
    "Water freezes at zero degrees; salt lowers that point, which is why roads are salted.",
)


@dataclass(frozen=True)
class Fingerprint:
    """Token log-likelihoods (nats) of the fixed texts under one set of weights."""

    numbers: tuple[float, ...]

    def distance(self, other: Fingerprint) -> float:
        """Root mean square difference, in nats per token; infinite if they cannot be compared."""
        if not self.numbers or len(self.numbers) != len(other.numbers):
            return math.inf
        squares = [(a - b) ** 2 for a, b in zip(self.numbers, other.numbers, strict=True)]
        return math.sqrt(sum(squares) / len(squares))


def require_weights(
    observed: Fingerprint,
    reference: Fingerprint,
    tolerance: float,
    before: tuple[Fingerprint, Fingerprint] | None = None,
) -> None:
    """Raise unless the engine's numbers say that it serves the weights that were meant.

    Args:
        observed: from the engine, now.
        reference: from the files that are meant.
        tolerance: largest distance between the two, in nats per token.
        before: what was observed and the reference before a swap from other weights.

    Raises:
        EngineError: the numbers are too far off, or nearer to the weights of before.
    """
    off = observed.distance(reference)
    if not off <= tolerance:
        raise EngineError(
            f"the engine does not serve the weights that were meant: its log-likelihoods are "
            f"{off:.3f} nats per token off, more than {tolerance:g}"
        )
    if before is None:
        return
    observed_before, reference_before = before
    if reference.distance(reference_before) == 0:
        return
    if observed.numbers == observed_before.numbers:
        raise EngineError("the engine gives the same numbers as before the weight swap")
    if observed.distance(observed_before) * 2 < off:
        raise EngineError(
            "the engine is nearer to the weights of before the swap than to those meant"
        )


def reference_fingerprint(
    directory: Path, texts: Sequence[Sequence[int]], adapter: Path | None = None
) -> Fingerprint:
    """Compute the fingerprint from the files, one text at a time.

    Args:
        directory: a full checkpoint.
        texts: token ids of the fixed texts.
        adapter: a LoRA adapter to lay over it, unmerged.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter))
    model.eval()
    numbers: list[float] = []
    with torch.inference_mode():
        for ids in texts:
            row = torch.tensor([list(ids)])
            logits = model(row).logits[0, :-1].float()
            chosen = torch.log_softmax(logits, -1).gather(1, row[0, 1:, None])
            numbers.extend(chosen[:, 0].tolist())
    return Fingerprint(tuple(numbers))
