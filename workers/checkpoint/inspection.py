"""Inspecting a checkpoint before anything of it is loaded. A checkpoint is hostile until then."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from checks.sample import Message
from gate.errors import CheckpointError
from workers.checkpoint.digest import content_digest, served_files
from workers.checkpoint.safetensors_files import ADAPTER, Shapes, read_shapes, weight_files
from workers.engine.chat_tokens import ChatTokenizer

ADAPTER_CONFIG = "adapter_config.json"
CONFIG = "config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
#: Files that run code when they are loaded, by suffix.
PROGRAMS = {
    **dict.fromkeys(
        (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz"), "a pickle"
    ),
    **dict.fromkeys((".py", ".pyc", ".so"), "program code"),
}
#: Files that a trainer leaves beside the weights and that no loader reads.
HARMLESS_LEFTOVERS = {"training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"}
LARGEST_CONFIG_BYTES = 16 * 1024 * 1024
LARGEST_TOKENIZER_BYTES = 256 * 1024 * 1024
_LORA_A = ".lora_A.weight"
_LORA_B = ".lora_B.weight"
_PEFT_PREFIX = "base_model.model."


class Kind(StrEnum):
    """What a checkpoint directory holds."""

    FULL = "full model"
    ADAPTER = "LoRA adapter"


@dataclass(frozen=True)
class Inspected:
    """A checkpoint that may be loaded."""

    directory: Path
    kind: Kind
    digest: str
    config: dict[str, Any]
    shapes: Shapes


def inspect_full_model(directory: Path) -> Inspected:
    """Inspect a full model: files, config, tokenizer, chat template, weights' headers.

    Raises:
        CheckpointError: names the offending file and the reason.
    """
    _require_plain_files(directory)
    config = _read_json(directory / CONFIG)
    _forbid_remote_code(directory)
    for field, form in (("model_type", str), ("architectures", list), ("vocab_size", int)):
        if not config.get(field):
            raise CheckpointError(directory / CONFIG, f"has no {field}")
        if not isinstance(config[field], form):
            raise CheckpointError(directory / CONFIG, f"{field} is not of type {form.__name__}")
    shapes: Shapes = {}
    for file in weight_files(directory):
        shapes |= read_shapes(file)
    if not shapes:
        raise CheckpointError(directory, "the safetensors files hold no tensors")
    tokenizer = ChatTokenizer(directory)
    if tokenizer.vocabulary_size() > config["vocab_size"]:
        raise CheckpointError(
            directory / "tokenizer.json",
            f"has {tokenizer.vocabulary_size()} tokens, more than vocab_size in {CONFIG}, "
            f"{config['vocab_size']}",
        )
    tokenizer.answer_tokens([Message(role="user", content="Good morning!")], "Good morning to you.")
    return Inspected(directory, Kind.FULL, content_digest(served_files(directory)), config, shapes)


def inspect_adapter(directory: Path, base: Inspected) -> Inspected:
    """Inspect a PEFT LoRA adapter and check that it fits its base.

    Raises:
        CheckpointError: names the offending file and the reason.
    """
    _require_plain_files(directory)
    config = _read_json(directory / ADAPTER_CONFIG)
    _forbid_remote_code(directory)
    if config.get("peft_type") != "LORA":
        raise CheckpointError(
            directory / ADAPTER_CONFIG,
            f"peft_type is {config.get('peft_type')!r}; only LORA adapters are accepted",
        )
    shapes = read_shapes(directory / ADAPTER)
    for name, shape in shapes.items():
        _require_fit(directory / ADAPTER, name, shape, base)
    _require_pairs(directory / ADAPTER, shapes)
    return Inspected(
        directory, Kind.ADAPTER, content_digest(served_files(directory)), config, shapes
    )


def kind_of(directory: Path) -> Kind:
    """Tell an adapter from a full model by its config file.

    Raises:
        CheckpointError: the directory is missing or has neither config file.
    """
    if not directory.is_dir():
        raise CheckpointError(directory, "is not a directory")
    if (directory / ADAPTER_CONFIG).is_file():
        return Kind.ADAPTER
    if (directory / CONFIG).is_file():
        return Kind.FULL
    raise CheckpointError(
        directory, f"holds neither {CONFIG} (a full model) nor {ADAPTER_CONFIG} (a LoRA adapter)"
    )


def _require_plain_files(directory: Path) -> None:
    if not directory.is_dir():
        raise CheckpointError(directory, "is not a directory")
    root = directory.resolve()
    for file in sorted(directory.rglob("*")):
        if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(root):
            raise CheckpointError(
                file, "is a link that leads out of the checkpoint; copy the files (cp -rL)"
            )
        if not os.path.isfile(file) and not os.path.isdir(file):
            raise CheckpointError(file, "is neither a file nor a directory; remove it")
        program = PROGRAMS.get(file.suffix.lower())
        if program and file.name not in HARMLESS_LEFTOVERS:
            raise CheckpointError(
                file,
                f"is {program}, which can run on loading; save the checkpoint as safetensors and "
                "remove this file",
            )


def _forbid_remote_code(directory: Path) -> None:
    for file in sorted(directory.glob("*.json")):
        if file.name in {"tokenizer.json", "vocab.json"} or file.name.endswith(".index.json"):
            continue
        if "auto_map" in _keys(_read_json(file)):
            raise CheckpointError(
                file, "has an auto_map, which loads code of the checkpoint's own; remove it"
            )


def _keys(value: object) -> set[str]:
    """All keys at any depth; without recursion, for a hostile file may be deep."""
    keys: set[str] = set()
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            keys |= inner.keys()
            waiting.extend(inner.values())
        elif isinstance(inner, list):
            waiting.extend(inner)
    return keys


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise CheckpointError(file, "is missing")
    limit = LARGEST_TOKENIZER_BYTES if file.name in TOKENIZER_FILES else LARGEST_CONFIG_BYTES
    if file.stat().st_size > limit:
        raise CheckpointError(file, f"is larger than {limit} bytes")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(file, f"is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(file, "is not a JSON object")
    return content


def _require_pairs(file: Path, shapes: Shapes) -> None:
    """Half an adapter changes nothing when it is loaded, and would be judged as its base."""
    pairs = {
        n.removesuffix(half) for n in shapes for half in (_LORA_A, _LORA_B) if n.endswith(half)
    }
    if not pairs:
        raise CheckpointError(file, "holds no LoRA weights")
    for module in sorted(pairs):
        down, up = shapes.get(module + _LORA_A), shapes.get(module + _LORA_B)
        if down is None or up is None:
            missing = (_LORA_A if down is None else _LORA_B).removeprefix(".")
            raise CheckpointError(file, f"has no {missing} for {module}")
        if down[0] != up[1]:
            raise CheckpointError(
                file, f"{module} has rank {down[0]} in lora_A and {up[1]} in lora_B"
            )


def _require_fit(file: Path, name: str, shape: tuple[int, ...], base: Inspected) -> None:
    for suffix, axis in ((_LORA_A, 1), (_LORA_B, 0)):
        if not name.endswith(suffix):
            continue
        module = name.removeprefix(_PEFT_PREFIX).removesuffix(suffix)
        target = base.shapes.get(f"{module}.weight")
        if target is None:
            raise CheckpointError(
                file, f"adapts {module}, which the base {base.directory} does not have"
            )
        if len(shape) != len(target) or shape[axis] != target[axis]:
            raise CheckpointError(
                file,
                f"{name} has shape {list(shape)}, which does not fit {module} of the base, "
                f"{list(target)}: the adapter belongs to another architecture",
            )
