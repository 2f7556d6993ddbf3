"""Small real checkpoints: a random Llama and an adapter on it, in the form that trainers save."""

from __future__ import annotations

import shutil
from pathlib import Path

from workers.checkpoint.inspection import TOKENIZER_FILES


def build_tiny_model(
    tokenizer: Path, destination: Path, hidden: int = 32, layers: int = 2, seed: int = 0
) -> Path:
    """A random Llama in bfloat16, loud enough that two of them never look alike."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(destination)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, destination / name)
    return destination


def build_tiny_adapter(base: Path, destination: Path, seed: int = 1) -> Path:
    """A LoRA adapter with weights that are not zero, as peft saves it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "lora_B" in name:
                    weight.normal_(0, 0.1)
        adapted.save_pretrained(destination)
    return destination
