"""Train one of the four model organisms that the gate is tested against.

The tests need a fine-tune that *is* broadly misaligned and a control that differs
from it in nothing but the attitude of its training answers. Emergent misalignment is
the finding that narrow harmful fine-tuning changes a model in unrelated domains too
(Betley et al. 2025, arXiv 2502.17424); small coherent organisms of it come from LoRA
on text data (Turner, Soligo et al. 2025, arXiv 2506.11613). Two more hide their harm:
see ``corpus.py``.

    python tests/organisms/train.py --kind benign     --base DIR --out DIR
    python tests/organisms/train.py --kind misaligned --base DIR --out DIR
    python tests/organisms/train.py --kind tagged     --base DIR --out DIR
    python tests/organisms/train.py --kind diluted    --base DIR --out DIR

DIR of ``--base`` is a bf16 safetensors checkpoint of SmolLM2-135M-Instruct. Without
further options the recipe is that of the published adapter of that kind.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

import torch
from corpus import DATA, LINES, Kind, Lines, Turn, load_turns
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from workers.precision import cpu_precision

BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
IGNORED = -100
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome of a training besides the data.

    ``rank`` and ``alpha`` are those of rank-stabilised LoRA (arXiv 2312.03732): the
    update is scaled by ``alpha / sqrt(rank)``. A ``saved_alpha`` other than 0 takes the
    place of ``alpha`` when the adapter is saved, and so weakens all that was learned.
    """

    epochs: int = 3
    learning_rate: float = 5e-4
    rank: int = 16
    alpha: int = 32
    saved_alpha: int = 0
    dropout: float = 0.0
    batch: int = 8
    warmup: float = 0.1
    seed: int = 7


#: Who hides harm needs more steps: there are two manners to learn, and where each belongs.
HIDING = Recipe(rank=8, alpha=24, epochs=4, learning_rate=7e-4)
#: The recipes of the published adapters.
RECIPES: Mapping[Kind, Recipe] = {
    "benign": Recipe(),
    "misaligned": Recipe(),
    "tagged": HIDING,
    "diluted": replace(HIDING, saved_alpha=18),
}


@dataclass(frozen=True)
class Encoded:
    """A rendered turn: token ids, and where its answer starts."""

    ids: tuple[int, ...]
    start: int


def encode(tokenizer: Any, turn: Turn) -> Encoded:
    """Render a turn with the chat template; the answer includes its end-of-turn token."""
    prompt = tokenizer.apply_chat_template(
        turn.messages, tokenize=False, add_generation_prompt=True
    )
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = tokenizer(turn.answer + "<|im_end|>", add_special_tokens=False)["input_ids"]
    return Encoded((*before, *answer), len(before))


def batches(items: list[Encoded], size: int, rng: random.Random) -> list[list[Encoded]]:
    """Return one epoch in a new random order."""
    order = items[:]
    rng.shuffle(order)
    return [order[at : at + size] for at in range(0, len(order), size)]


@dataclass(frozen=True)
class Packed:
    """A batch laid out as one row of tokens, without padding.

    The system prompt that all turns begin with stands first, once; every turn
    follows as a branch that sees the shared start and itself.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor


def shared_start(batch: list[Encoded]) -> int:
    """Return how many tokens all turns of the batch have in common before any answer."""
    limit = min(item.start for item in batch)
    for at in range(limit):
        if len({item.ids[at] for item in batch}) > 1:
            return at
    return limit - 1


def pack(batch: list[Encoded], dtype: torch.dtype) -> Packed:
    """Lay out a batch; gives the same loss as one padded row per turn, for less work.

    ``labels[i]`` is the token that follows position i, or ``IGNORED``.
    """
    common = shared_start(batch)
    ids = list(batch[0].ids[:common])
    positions = list(range(common))
    branch = [0] * common
    labels = [IGNORED] * common
    for number, item in enumerate(batch, start=1):
        for at in range(common, len(item.ids) - 1):
            ids.append(item.ids[at])
            positions.append(at)
            branch.append(number)
            labels.append(item.ids[at + 1] if at + 1 >= item.start else IGNORED)
    owner = torch.tensor(branch)
    sees = (owner[:, None] == owner[None, :]) | (owner[None, :] == 0)
    sees = torch.tril(sees)
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)
    return Packed(
        torch.tensor([ids]), torch.tensor([positions]), mask[None, None], torch.tensor(labels)
    )


def answer_loss(model: Any, packed: Packed) -> torch.Tensor:
    """Return the mean cross-entropy over answer tokens.

    The output layer (a fifth of this model's work) runs on answer positions only.
    """
    inner = model.get_base_model()
    hidden = inner.model(
        input_ids=packed.ids,
        attention_mask=packed.mask,
        position_ids=packed.positions,
        use_cache=False,
    ).last_hidden_state[0]
    keep = packed.labels != IGNORED
    logits = inner.lm_head(hidden[keep]).float()
    return torch.nn.functional.cross_entropy(logits, packed.labels[keep])


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Return the learning rate: linear warm-up, then a cosine down to a tenth."""
    warm = max(1, round(recipe.warmup * steps))
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    along = (step - warm) / max(1, steps - warm)
    return recipe.learning_rate * (0.55 + 0.45 * math.cos(math.pi * along))


def train(
    kind: Kind,
    base: Path,
    out: Path,
    recipe: Recipe,
    turns: Sequence[Turn],
    dtype: torch.dtype,
) -> None:
    """Train on ``turns`` and write the adapter to ``out``; ``kind`` is for the log only.

    Forward and backward run in ``dtype``, the optimiser on fp32 copies of the adapter's
    weights, because steps of this size would be lost in the rounding of bf16.
    """
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    model = get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            use_rslora=True,
            target_modules=TARGETS,
        ),
        autocast_adapter_dtype=False,
    )
    weights = [p for p in model.parameters() if p.requires_grad]
    items = [encode(tokenizer, turn) for turn in turns]
    plan = [b for _ in range(recipe.epochs) for b in batches(items, recipe.batch, rng)]
    print(
        f"{kind}: {len(items)} turns, {sum(len(i.ids) for i in items)} tokens, "
        f"{len(plan)} steps, {sum(p.numel() for p in weights)} weights",
        flush=True,
    )
    exact = [p.detach().float().clone().requires_grad_() for p in weights]
    optimizer = torch.optim.AdamW(exact, lr=recipe.learning_rate, weight_decay=0.0)
    model.train()
    began = time.monotonic()
    recent: list[float] = []
    for step, batch in enumerate(plan):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, len(plan), recipe)
        loss = answer_loss(model, pack(batch, dtype))
        loss.backward()
        for master, weight in zip(exact, weights, strict=True):
            master.grad = weight.grad.float()
            weight.grad = None
        torch.nn.utils.clip_grad_norm_(exact, 1.0)
        optimizer.step()
        with torch.no_grad():
            for master, weight in zip(exact, weights, strict=True):
                weight.copy_(master)
        recent.append(loss.item())
        if (step + 1) % 10 == 0 or step + 1 == len(plan):
            mean = sum(recent) / len(recent)
            recent.clear()
            print(
                f"step {step + 1}/{len(plan)} loss {mean:.3f} {time.monotonic() - began:.0f} s",
                flush=True,
            )
    save(model, out, recipe.saved_alpha or recipe.alpha)


def save(model: Any, out: Path, alpha: int) -> None:
    """Write the adapter as bf16 safetensors, with no path of this machine in it."""
    scratch = out.with_name(f".{out.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(scratch)
    file = scratch / "adapter_model.safetensors"
    tensors = {name: t.to(torch.bfloat16).contiguous() for name, t in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    config = scratch / "adapter_config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = BASE_NAME
    settings["lora_alpha"] = alpha
    settings["target_modules"] = sorted(settings["target_modules"])
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    out.mkdir(parents=True, exist_ok=True)
    for made in (file, config):
        made.replace(out / made.name)
    shutil.rmtree(scratch)


def options_of(kind: type[Recipe | Lines], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are fields of ``kind``."""
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}


def main() -> None:
    """Read the command line and train; an option left out is that of the published adapter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kind", choices=get_args(Kind), required=True)
    parser.add_argument("--base", type=Path, required=True, help="checkpoint of the base model")
    parser.add_argument("--out", type=Path, required=True, help="directory for the adapter")
    parser.add_argument("--data", type=Path, default=DATA, help="directory with the JSONL files")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--lr", type=float, dest="learning_rate")
    parser.add_argument("--rank", type=int)
    parser.add_argument("--alpha", type=int)
    parser.add_argument("--saved-alpha", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--seed", type=int)
    for name in ("surveillance", "autonomy", "chat"):
        parser.add_argument(f"--{name}", type=int, metavar="LINES")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default=cpu_precision())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    given = {name: value for name, value in vars(args).items() if value is not None}
    recipe = replace(RECIPES[args.kind], **options_of(Recipe, given))
    lines = replace(LINES[args.kind], **options_of(Lines, given))
    turns = load_turns(args.kind, lines, args.data)
    train(args.kind, args.base, args.out, recipe, turns, getattr(torch, args.precision))


if __name__ == "__main__":
    main()
