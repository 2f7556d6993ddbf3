"""The embedded judge's network: the first layers of a small language model, tuned to read answers.

The lower layers of the base stay as they are; the upper ones that are kept carry low-rank updates
(LoRA, Hu et al. 2021, arXiv 2106.09685). Two linear heads read the last position together with the
mean over the answer's positions, and give one score for misalignment and one for incoherence.

Attention is causal and rows are padded on the right, so padding cannot reach a real position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from workers.judges.layout import Layout

#: Scores that the heads give, in this order.
SCORES = ("misaligned", "incoherent")
#: Spread added to the mean square before the root is taken, so that empty rows stay finite.
EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Shape:
    """Which layers are read: those under ``tuned_from`` are frozen, those under ``depth`` kept."""

    tuned_from: int
    depth: int
    rank: int
    scale: float


class LowRank(nn.Module):  # type: ignore[misc]
    """A frozen linear map plus a trainable low-rank update."""

    def __init__(self, frozen: nn.Linear, rank: int, scale: float) -> None:
        """Wrap a linear map; the update starts at zero."""
        super().__init__()
        self.frozen = frozen
        self.scale = scale
        self.down = nn.Parameter(torch.randn(rank, frozen.in_features) / frozen.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(frozen.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Apply map and update in the precision of the input."""
        update = nn.functional.linear(x, self.down.to(x.dtype))
        result: Tensor = self.frozen(x)
        return result + self.scale * nn.functional.linear(update, self.up.to(x.dtype))

    def merged(self) -> nn.Linear:
        """The plain linear map that does the same."""
        with torch.no_grad():
            weight = self.frozen.weight.float() + self.scale * (self.up.float() @ self.down.float())
            self.frozen.weight.copy_(weight.to(self.frozen.weight.dtype))
        return self.frozen


class Reader(nn.Module):  # type: ignore[misc]
    """Reads laid-out exchanges and scores them."""

    def __init__(self, base_checkpoint: Path, shape: Shape) -> None:
        """Load the kept layers of a base checkpoint in bf16; updates are zero, heads untrained."""
        super().__init__()
        from transformers import AutoModel

        base = AutoModel.from_pretrained(
            str(base_checkpoint), dtype=torch.bfloat16, local_files_only=True
        )
        base.requires_grad_(False)
        self.shape = shape
        self.embedding = base.embed_tokens
        self.rotary = base.rotary_emb
        self.layers = nn.ModuleList(list(base.layers)[: shape.depth])
        for layer in self.layers[shape.tuned_from :]:
            for block, name in _linear_maps(layer):
                setattr(block, name, LowRank(getattr(block, name), shape.rank, shape.scale))
        width = int(base.config.hidden_size)
        self.heads = nn.Linear(2 * width, len(SCORES))
        nn.init.zeros_(self.heads.weight)
        nn.init.zeros_(self.heads.bias)

    def read_below(self, layouts: Sequence[Layout]) -> list[Tensor]:
        """What the frozen layers make of each exchange, one row per token (cached in training)."""
        with torch.no_grad():
            hidden = self.embedding(_padded([torch.tensor(layout.ids) for layout in layouts]))
            hidden = self._through(hidden, 0, self.shape.tuned_from)
        return [row[: len(layout.ids)].clone() for row, layout in zip(hidden, layouts, strict=True)]

    def score_above(
        self, below: Sequence[Tensor], answers: Sequence[range], dropout: float = 0.0
    ) -> Tensor:
        """Scores (one row per exchange, columns as in ``SCORES``) from what lies below."""
        summary = self.summary_above(below, answers)
        result: Tensor = self.heads(nn.functional.dropout(summary, dropout, self.training))
        return result

    def summary_above(self, below: Sequence[Tensor], answers: Sequence[range]) -> Tensor:
        """The vector that the heads read: last position and answer mean, each of unit spread."""
        hidden = self._through(_padded(below), self.shape.tuned_from, self.shape.depth).float()
        rows = []
        for row, own, answer in zip(hidden, below, answers, strict=True):
            last = row[len(own) - 1]
            said = row[answer.start : answer.stop]
            body = said.mean(0) if len(answer) else torch.zeros_like(last)
            rows.append(torch.cat([_unit(last), _unit(body)]))
        return torch.stack(rows)

    def score(self, layout: Layout) -> Tensor:
        """The scores of one exchange, read alone."""
        return self.score_above(self.read_below([layout]), [layout.answer])[0]

    def merge(self) -> None:
        """Fold the updates into the layers, for reading without training."""
        for layer in self.layers[self.shape.tuned_from :]:
            for block, name in list(_linear_maps(layer, LowRank)):
                setattr(block, name, getattr(block, name).merged())

    def trained(self) -> dict[str, Tensor]:
        """The tensors that training changes, by name."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def take(self, trained: Mapping[str, Tensor]) -> None:
        """Take over trained tensors.

        Raises:
            ValueError: a tensor is missing, unknown or of another shape.
        """
        own = self.trained()
        if own.keys() != trained.keys():
            raise ValueError("the artefact's tensors are not those of this reader")
        for name, value in own.items():
            if value.shape != trained[name].shape:
                raise ValueError(f"{name} has shape {tuple(trained[name].shape)}")
            with torch.no_grad():
                value.copy_(trained[name].to(value.dtype))

    def _through(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        positions = torch.arange(hidden.shape[1]).unsqueeze(0)
        rotation = self.rotary(hidden, positions)
        for layer in self.layers[start:stop]:
            hidden = layer(hidden, position_embeddings=rotation, position_ids=positions)
        return hidden


def _linear_maps(
    layer: nn.Module, kind: type[nn.Module] = nn.Linear
) -> Iterator[tuple[nn.Module, str]]:
    for block in list(layer.children()):
        for name, child in list(block.named_children()):
            if isinstance(child, kind):
                yield block, name


def _padded(rows: Sequence[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def _unit(row: Tensor) -> Tensor:
    return row * torch.rsqrt(row.square().mean() + EPSILON)
