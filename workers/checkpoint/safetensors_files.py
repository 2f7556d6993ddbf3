"""Reading names and shapes from safetensors headers, without loading a weight."""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open

from gate.errors import CheckpointError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER = "adapter_model.safetensors"

Shapes = dict[str, tuple[int, ...]]


def weight_files(directory: Path) -> list[Path]:
    """The files that hold a full model's weights, in order.

    Raises:
        CheckpointError: there are none, the index is not usable, or names a missing file.
    """
    index = directory / INDEX
    if not index.is_file():
        single = directory / SINGLE
        if not single.is_file():
            raise CheckpointError(single, "is missing; only safetensors checkpoints are accepted")
        return [single]
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in weight_map.values()})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(index, f"is not a safetensors index: {error}") from error
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(index, f"names a file outside the checkpoint: {name}")
        if not os.path.isfile(directory / name):  # Path.is_file raises on names that are too long
            raise CheckpointError(directory / name, f"is missing, but {INDEX} names it")
    return [directory / name for name in names]


def read_shapes(file: Path) -> Shapes:
    """Tensor names and shapes of one file.

    Raises:
        CheckpointError: the file is missing, truncated or not safetensors.
    """
    if not file.is_file():
        raise CheckpointError(file, "is missing")
    try:
        with safe_open(file, framework="numpy") as tensors:
            names: list[str] = list(tensors.keys())
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            file, f"is truncated or not a safetensors file ({error}); copy it again"
        ) from error
