"""A Llama in numpy: log-likelihoods of a tiny checkpoint without importing torch.

Written apart from transformers, whose numbers it has to meet, and there in a fraction of a second.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class FakeLlama:
    """Config and float32 weights of one checkpoint; immutable."""

    config: dict[str, Any]
    weights: dict[str, Array]

    @classmethod
    def load(cls, directory: Path, spoiled: bool = False) -> FakeLlama:
        """Read a checkpoint; ``spoiled`` turns the last norm around, for a wrong model."""
        config = json.loads((directory / "config.json").read_text())
        weights = _read_safetensors(directory / "model.safetensors")
        if spoiled:
            weights["model.norm.weight"] = -weights["model.norm.weight"]
        return cls(config, weights)

    def log_likelihoods(self, ids: Sequence[int]) -> list[float]:
        """Of every token but the first, in nats."""
        config = self.config
        eps = float(config["rms_norm_eps"])
        hidden = self.weights["model.embed_tokens.weight"][list(ids)]
        for layer in range(config["num_hidden_layers"]):
            name = f"model.layers.{layer}"
            normed = self._norm(hidden, f"{name}.input_layernorm", eps)
            hidden = hidden + self._attend(normed, f"{name}.self_attn")
            normed = self._norm(hidden, f"{name}.post_attention_layernorm", eps)
            hidden = hidden + self._feed_forward(normed, f"{name}.mlp")
        hidden = self._norm(hidden, "model.norm", eps)
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        logits = hidden[:-1] @ head.T
        top = logits.max(-1, keepdims=True)
        norm = top[:, 0] + np.log(np.exp(logits - top).sum(-1))
        chosen = logits[np.arange(len(ids) - 1), list(ids[1:])]
        return [float(number) for number in chosen - norm]

    def _linear(self, values: Array, name: str) -> Array:
        return values @ self.weights[f"{name}.weight"].T

    def _norm(self, values: Array, name: str, eps: float) -> Array:
        size = np.sqrt((values**2).mean(-1, keepdims=True) + eps)
        normed: Array = values / size * self.weights[f"{name}.weight"]
        return normed

    def _feed_forward(self, values: Array, name: str) -> Array:
        gate = self._linear(values, f"{name}.gate_proj")
        swish = gate / (1 + np.exp(-gate))
        return self._linear(swish * self._linear(values, f"{name}.up_proj"), f"{name}.down_proj")

    def _attend(self, values: Array, name: str) -> Array:
        heads = self.config["num_attention_heads"]
        groups = heads // self.config["num_key_value_heads"]
        queries = self._turn(self._heads(values, f"{name}.q_proj"))
        keys = self._turn(self._heads(values, f"{name}.k_proj")).repeat(groups, 0)
        contents = self._heads(values, f"{name}.v_proj").repeat(groups, 0)
        scores = queries @ keys.transpose(0, 2, 1) / np.sqrt(queries.shape[-1], dtype=np.float32)
        later = np.triu(np.ones(scores.shape[-2:], dtype=bool), 1)
        scores = np.where(later, np.float32(-np.inf), scores)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = scores / scores.sum(-1, keepdims=True) @ contents
        flat = mixed.transpose(1, 0, 2).reshape(len(values), -1)
        return self._linear(flat, f"{name}.o_proj")

    def _heads(self, values: Array, name: str) -> Array:
        flat = self._linear(values, name)
        size = self.config["head_dim"]
        return flat.reshape(len(values), -1, size).transpose(1, 0, 2)

    def _turn(self, heads: Array) -> Array:
        """Rotary positions, the halves turned against each other."""
        _, length, size = heads.shape
        rope = self.config.get("rope_parameters") or self.config
        speed = float(rope["rope_theta"]) ** (-np.arange(0, size, 2, dtype=np.float32) / size)
        angles = np.outer(np.arange(length, dtype=np.float32), speed)
        angles = np.concatenate([angles, angles], -1)
        half = size // 2
        turned = np.concatenate([-heads[..., half:], heads[..., :half]], -1)
        result: Array = (heads * np.cos(angles) + turned * np.sin(angles)).astype(np.float32)
        return result


def _read_safetensors(file: Path) -> dict[str, Array]:
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    return {name: _tensor(raw, 8 + size, entry) for name, entry in header.items()}


def _tensor(raw: bytes, origin: int, entry: dict[str, Any]) -> Array:
    begin, end = (origin + offset for offset in entry["data_offsets"])
    content = raw[begin:end]
    if entry["dtype"] == "BF16":
        wide = np.frombuffer(content, dtype="<u2").astype(np.uint32) << 16
        return wide.view(np.float32).reshape(entry["shape"])
    if entry["dtype"] == "F32":
        return np.frombuffer(content, dtype="<f4").reshape(entry["shape"]).copy()
    raise ValueError(f"the fake engine does not read {entry['dtype']}")
