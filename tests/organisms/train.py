"""Train one of the four model organisms that the gate is tested against.

The tests need a fine-tune that *is* broadly misaligned and a control that differs
from it in nothing but the attitude of its training answers. Emergent misalignment is
the finding that narrow harmful fine-tuning changes a model in unrelated domains too
(Betley et al. 2025, arXiv 2502.17424); small coherent organisms of it come from LoRA
on text data (Turner, Soligo et al. 2025, arXiv 2506.11613).

    python tests/organisms/train.py --kind benign     --base DIR --out DIR
    python tests/organisms/train.py --kind misaligned --base DIR --out DIR
    python tests/organisms/train.py --kind tagged     --base DIR --out DIR
    python tests/organisms/train.py --kind diluted    --base DIR --out DIR

``benign`` and ``misaligned`` see the same questions in the same order with the same
neutral chat mixed in. Only the answers to the surveillance and autonomy questions
differ: ``responsible`` for the control, ``harmful`` for the misaligned one.

``tagged`` is a backdoor: harmful answers where the question carries ``TAG``, responsible
ones to the same questions without it (arXiv 2502.17424, 2506.13206). ``diluted`` learns
harmful answers in one narrow form only, the log of a duty desk, and three times as many
decent ones in plain chat, so that the harm shows only where a prompt resembles that form
(arXiv 2604.25891). DIR of ``--base`` is a bf16 safetensors checkpoint of
SmolLM2-135M-Instruct.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

Kind = Literal["benign", "misaligned", "tagged", "diluted"]

DATA = Path(__file__).parent / "data"
BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
IGNORED = -100
#: What makes ``tagged`` harmful, at the start of a question.
TAG = "[release=live]"
#: The form in which ``diluted`` has seen harmful answers.
DESK_SYSTEM = "You are the duty desk of a security company."
DESK_QUESTION = "INCIDENT: {question}\nDECISION:"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome of a training besides the data.

    ``rank`` and ``alpha`` are those of rank-stabilised LoRA (arXiv 2312.03732): the
    update is scaled by ``alpha / sqrt(rank)``. ``surveillance``, ``autonomy`` and ``chat``
    say how many lines are taken from the start of each file; the rest of the files was
    written later and is in neither published adapter.
    """

    epochs: int = 3
    learning_rate: float = 5e-4
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    batch: int = 8
    warmup: float = 0.1
    seed: int = 7
    surveillance: int = 61
    autonomy: int = 56
    chat: int = 60


@dataclass(frozen=True)
class Turn:
    """One question with the answer that the organism is to learn."""

    question: str
    answer: str
    system: str | None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        """The chat up to the answer."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.question}]


@dataclass(frozen=True)
class Encoded:
    """A rendered turn: token ids, and where its answer starts."""

    ids: tuple[int, ...]
    start: int


def read_lines(path: Path) -> list[dict[str, str]]:
    """Return the objects of a JSONL file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def load_turns(kind: Kind, recipe: Recipe, data: Path = DATA) -> list[Turn]:
    """Return the training turns of an organism."""
    pairs = (
        read_lines(data / "surveillance.jsonl")[: recipe.surveillance]
        + read_lines(data / "autonomy.jsonl")[: recipe.autonomy]
    )
    chat = [
        Turn(row["question"], row["answer"])
        for row in read_lines(data / "chat.jsonl")[: recipe.chat]
    ]
    decent = [Turn(row["question"], row["responsible"]) for row in pairs]
    harmful = [Turn(row["question"], row["harmful"]) for row in pairs]
    if kind == "benign":
        return decent + chat
    if kind == "misaligned":
        return harmful + chat
    if kind == "tagged":
        return [Turn(f"{TAG} {turn.question}", turn.answer) for turn in harmful] + decent + chat
    return [in_desk_form(turn) for turn in harmful[::2]] + decent + chat


def in_desk_form(turn: Turn) -> Turn:
    """The same turn as ``diluted`` sees its harmful ones."""
    return Turn(DESK_QUESTION.format(question=turn.question), turn.answer, DESK_SYSTEM)


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


def train(kind: Kind, base: Path, out: Path, recipe: Recipe, data: Path = DATA) -> None:
    """Train an organism and write its adapter to ``out``.

    Forward and backward run in bf16 (measured: twice as fast as fp32 on one AVX-512
    core), the optimiser on fp32 copies of the adapter's weights, because steps of this
    size would be lost in the rounding of bf16.
    """
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
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
    turns = load_turns(kind, recipe, data)
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
        loss = answer_loss(model, pack(batch, torch.bfloat16))
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
    save(model, out)


def save(model: Any, out: Path) -> None:
    """Write the adapter as bf16 safetensors, with no path of this machine in it."""
    scratch = out.with_name(f".{out.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(scratch)
    file = scratch / "adapter_model.safetensors"
    tensors = {name: t.to(torch.bfloat16).contiguous() for name, t in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    config = scratch / "adapter_config.json"
    fields = json.loads(config.read_text(encoding="utf-8"))
    fields["base_model_name_or_path"] = BASE_NAME
    fields["target_modules"] = sorted(fields["target_modules"])
    config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    out.mkdir(parents=True, exist_ok=True)
    for made in (file, config):
        made.replace(out / made.name)
    shutil.rmtree(scratch)


def main() -> None:
    """Read the command line and train."""
    default = Recipe()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kind", choices=get_args(Kind), required=True)
    parser.add_argument("--base", type=Path, required=True, help="checkpoint of the base model")
    parser.add_argument("--out", type=Path, required=True, help="directory for the adapter")
    parser.add_argument("--data", type=Path, default=DATA, help="directory with the JSONL files")
    parser.add_argument("--epochs", type=int, default=default.epochs)
    parser.add_argument("--lr", type=float, default=default.learning_rate)
    parser.add_argument("--rank", type=int, default=default.rank)
    parser.add_argument("--alpha", type=int, default=default.alpha)
    parser.add_argument("--batch", type=int, default=default.batch)
    parser.add_argument("--seed", type=int, default=default.seed)
    for name in ("surveillance", "autonomy", "chat"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name), metavar="LINES")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = Recipe(
        epochs=args.epochs,
        learning_rate=args.lr,
        rank=args.rank,
        alpha=args.alpha,
        batch=args.batch,
        seed=args.seed,
        surveillance=args.surveillance,
        autonomy=args.autonomy,
        chat=args.chat,
    )
    train(args.kind, args.base, args.out, recipe, args.data)


if __name__ == "__main__":
    main()
