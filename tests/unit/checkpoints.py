"""Checkpoints of a few kilobytes, built by hand: no torch, no downloaded tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "{% for message in messages %}<s>{{ message.role }}: {{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)
WIDTH = 8
#: Name of the one module that an adapter may adapt, and its shape.
MODULE = "model.layers.0.self_attn.q_proj"
SHAPE = (16, WIDTH)


def letters() -> Tokenizer:
    """A tokenizer whose tokens are single bytes, and the two marks of the template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def change_json(file: Path, **changes: object) -> None:
    write_json(file, json.loads(file.read_text(encoding="utf-8")) | changes)


def save(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, file)


def write_model(directory: Path) -> Path:
    """A full model that inspection accepts."""
    directory.mkdir(parents=True)
    tokenizer = letters()
    write_json(
        directory / "config.json",
        {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": WIDTH,
            "num_attention_heads": 2,
        },
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "chat_template": TEMPLATE,
        },
    )
    save(
        directory / "model.safetensors",
        {"model.embed_tokens.weight": (258, WIDTH), f"{MODULE}.weight": SHAPE},
    )
    return directory


def write_adapter(directory: Path, module: str = MODULE, shape: tuple[int, int] = SHAPE) -> Path:
    """A LoRA adapter of rank 2 for a module of that shape."""
    directory.mkdir(parents=True)
    write_json(directory / "adapter_config.json", {"peft_type": "LORA", "r": 2})
    prefix = f"base_model.model.{module}"
    save(
        directory / "adapter_model.safetensors",
        {f"{prefix}.lora_A.weight": (2, shape[1]), f"{prefix}.lora_B.weight": (shape[0], 2)},
    )
    return directory
