"""Fitting the embedded judge's network to labelled examples.

Two losses: misalignment is learnt from coherent examples only, incoherence from all. What the
frozen layers make of each text is computed once and kept; the training passes then cost only the
tuned layers. The result is the mean of the weights over the last part of training (Izmailov et
al. 2018, arXiv 1803.05407), which transfers better to unseen topics than the last step does.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from workers.judges.labelled import Example
from workers.judges.layout import Typesetter
from workers.judges.reader import Reader

#: Examples read at once while caching.
_CACHED_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and how hard to fit."""

    passes: int = 3
    batch: int = 16
    rate: float = 3e-4
    head_rate: float = 5e-4
    decay: float = 0.05
    dropout: float = 0.1
    warm_up: float = 0.06
    averaged: float = 0.35
    incoherence_weight: float = 0.5
    smoothing: float = 0.03
    seed: int = 20261124


@dataclass(frozen=True, slots=True)
class Prepared:
    """One text as the tuned layers meet it, with its targets; no ``misaligned``: not asked."""

    below: Tensor
    answer: range
    misaligned: float | None
    incoherent: float | None


def prepare(reader: Reader, setter: Typesetter, examples: Sequence[Example]) -> list[Prepared]:
    """Read examples through the frozen layers."""
    layouts = [setter.lay_out(example.exchange) for example in examples]
    order = sorted(range(len(layouts)), key=lambda i: len(layouts[i].ids))
    below: dict[int, Tensor] = {}
    for chunk in _chunks(order, _CACHED_AT_ONCE):
        rows = reader.read_below([layouts[i] for i in chunk])
        below.update(zip(chunk, rows, strict=True))
    return [
        Prepared(below[i], layouts[i].answer, example.misaligned, example.incoherent)
        for i, example in enumerate(examples)
    ]


def fit(
    reader: Reader,
    rounds: Sequence[Sequence[Prepared]],
    recipe: Recipe,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Fit a reader in place; pass ``i`` goes over ``rounds[i % len(rounds)]``."""
    torch.manual_seed(recipe.seed)
    source = random.Random(recipe.seed)
    plan = [rounds[i % len(rounds)] for i in range(recipe.passes)]
    total = sum(math.ceil(len(examples) / recipe.batch) for examples in plan)
    trained = reader.trained()
    heads = [value for name, value in trained.items() if name.startswith("heads.")]
    updates = [value for name, value in trained.items() if not name.startswith("heads.")]
    optimiser = torch.optim.AdamW(
        [
            {"params": updates, "lr": recipe.rate, "weight_decay": 0.0},
            {"params": heads, "lr": recipe.head_rate, "weight_decay": recipe.decay},
        ],
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate(step / total, recipe.warm_up)
    )
    mean = {name: torch.zeros_like(value) for name, value in trained.items()}
    step = averaged = 0
    reader.train()
    for number, examples in enumerate(plan, start=1):
        losses = []
        for batch in _batches(examples, recipe.batch, source):
            optimiser.zero_grad(set_to_none=True)
            with sdpa_kernel(SDPBackend.MATH):  # its backward pass is the faster one on CPUs
                loss = _loss(reader, batch, recipe)
                loss.backward()
            nn.utils.clip_grad_norm_(list(trained.values()), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            step += 1
            if step > total * (1 - recipe.averaged):
                averaged += 1
                for name, value in trained.items():
                    mean[name] += (value.detach() - mean[name]) / averaged
        tell(f"pass {number}/{recipe.passes}: loss {sum(losses) / max(len(losses), 1):.3f}")
    if averaged:
        reader.take(mean)
    reader.eval()


def scores(reader: Reader, prepared: Sequence[Prepared]) -> Tensor:
    """Scores of prepared texts, one row each, columns as in ``reader.SCORES``."""
    reader.eval()
    with torch.no_grad():
        return torch.cat([reader.score_above([text.below], [text.answer]) for text in prepared])


def _loss(reader: Reader, batch: Sequence[Prepared], recipe: Recipe) -> Tensor:
    given = reader.score_above(
        [text.below for text in batch], [text.answer for text in batch], recipe.dropout
    )
    return _cross_entropy(
        given[:, 0], [text.misaligned for text in batch], recipe.smoothing
    ) + recipe.incoherence_weight * _cross_entropy(
        given[:, 1], [text.incoherent for text in batch], recipe.smoothing
    )


def _cross_entropy(given: Tensor, wanted: Sequence[float | None], smoothing: float) -> Tensor:
    asked = torch.tensor([value is not None for value in wanted])
    if not asked.any():
        return given.sum() * 0.0
    target = torch.tensor([value for value in wanted if value is not None])
    target = target * (1 - 2 * smoothing) + smoothing
    return nn.functional.binary_cross_entropy_with_logits(given[asked], target)


def _rate(done: float, warm_up: float) -> float:
    if done < warm_up:
        return done / warm_up
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def _batches(
    examples: Sequence[Prepared], size: int, source: random.Random
) -> Iterator[list[Prepared]]:
    """Batches of similar length in random order, different in every pass."""
    order = sorted(
        range(len(examples)), key=lambda i: len(examples[i].below) + source.uniform(-6, 6)
    )
    batches = list(_chunks(order, size))
    source.shuffle(batches)
    for batch in batches:
        yield [examples[i] for i in batch]


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
