"""Heads for a network whose layers are left alone: regularised logistic regression.

They are the cheapest judge of this kind, and the start from which the layers are tuned: tuning
from fitted heads distorts what the base already knows less than tuning from random ones (Kumar et
al. 2022, arXiv 2202.10054).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workers.judges.fitting import Prepared
from workers.judges.reader import Reader

#: Weight of the squared norm, per example; chosen by cross-validation over subjects.
PENALTY = 300.0
_STEPS = 60


def fit_heads(reader: Reader, prepared: Sequence[Prepared], penalty: float = PENALTY) -> None:
    """Fit a reader's heads in place to what its layers make of the examples now."""
    summaries = summarise(reader, prepared)
    columns = [[text.misaligned for text in prepared], [text.incoherent for text in prepared]]
    with torch.no_grad():
        for row, wanted in enumerate(columns):
            weight, bias = logistic(summaries, wanted, penalty)
            reader.heads.weight[row] = weight
            reader.heads.bias[row] = bias


def summarise(reader: Reader, prepared: Sequence[Prepared]) -> Tensor:
    """The vectors that the heads read."""
    order = sorted(range(len(prepared)), key=lambda i: len(prepared[i].below))
    rows: dict[int, Tensor] = {}
    for start in range(0, len(order), 16):
        chunk = order[start : start + 16]
        with torch.no_grad():
            found = reader.summary_above(
                [prepared[i].below for i in chunk], [prepared[i].answer for i in chunk]
            )
        rows.update(zip(chunk, found, strict=True))
    return torch.stack([rows[i] for i in range(len(prepared))])


def logistic(rows: Tensor, wanted: Sequence[float | None], penalty: float) -> tuple[Tensor, Tensor]:
    """Logistic regression on standardised columns; the result fits the columns as given."""
    asked = torch.tensor([value is not None for value in wanted])
    target = torch.tensor([value for value in wanted if value is not None])
    mean, spread = rows[asked].mean(0), rows[asked].std(0) + 1e-6
    standard = (rows[asked] - mean) / spread
    weight = torch.zeros(rows.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe", history_size=20
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(
            standard @ weight + bias, target, reduction="sum"
        )
        loss = (loss + penalty * weight.square().sum() / 2) / len(target)
        loss.backward()
        return loss

    optimiser.step(closure)
    plain = (weight / spread).detach()
    return plain, (bias - plain @ mean).detach()[0]
