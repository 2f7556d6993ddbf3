"""Trains the embedded judge from its base checkpoint and its labelled lines.

    python -m workers.judges.train --base DIR --out DIR

Steps: a seventh of the subjects is set aside; the others, with made incoherent answers and other
forms of the same answers, fit the network (heads first, then the upper layers); the set-aside
subjects draw the lines and are reported; the artefact is written. About half an hour on two cores.
Answers of small models count twice: they are few, and the most like what a gate meets.
Test sets (``training/test_*.jsonl``) are never read here.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from checks.agreement import auc
from workers.judges import artefact
from workers.judges.calibrating import calibrate
from workers.judges.fitting import Prepared, Recipe, fit, prepare, scores
from workers.judges.heads import fit_heads
from workers.judges.incoherent import make_incoherent
from workers.judges.labelled import CLUMSY, TRAINING_DIRECTORY, Example, read_training
from workers.judges.layout import Typesetter
from workers.judges.reader import Reader, Shape
from workers.judges.variants import vary

#: Layers under 8 are left as they are, 18 are read: why, and what was not tried, is in CARD.md.
SHAPE = Shape(tuned_from=8, depth=18, rank=16, scale=2.0)
#: One subject in so many is set aside to draw the lines.
SET_ASIDE = 7
#: Made incoherent answers, as a share of the labelled ones.
MADE = 0.15


def split_subjects(
    examples: Sequence[Example], source: random.Random
) -> tuple[list[Example], list[Example]]:
    """Examples to fit to and examples set aside; no subject is in both."""
    subjects = sorted({example.subject for example in examples})
    source.shuffle(subjects)
    aside = set(subjects[::SET_ASIDE])
    return (
        [example for example in examples if example.subject not in aside],
        [example for example in examples if example.subject in aside],
    )


def train(
    base: Path,
    examples: Sequence[Example],
    out: Path,
    recipe: Recipe,
    tell: Callable[[str], None] = print,
) -> None:
    """Train, calibrate and write the artefact."""
    source = random.Random(recipe.seed)
    fitted, aside = split_subjects(examples, source)
    fitted += [example for example in fitted if example.kind.startswith(CLUMSY)]
    fitted += make_incoherent(fitted, round(MADE * len(fitted)), source)
    aside += make_incoherent(aside, round(MADE * len(aside)), source)
    tell(f"{len(fitted)} examples to fit to, {len(aside)} set aside")

    setter = Typesetter.of(base)
    reader = Reader(base, SHAPE)
    plain = prepare(reader, setter, fitted)
    varied = prepare(reader, setter, [vary(example, source) for example in fitted])
    unseen = prepare(reader, setter, aside)
    tell("read through the frozen layers")
    fit_heads(reader, plain)
    figures = {"heads_only": _figures(aside, _scores(reader, unseen))}
    tell(f"heads fitted; on what was set aside: {figures['heads_only']}")
    fit(reader, [plain, varied], recipe, tell)
    figures["tuned"] = _figures(aside, _scores(reader, unseen))
    tell(f"tuned; on what was set aside: {figures['tuned']}")

    lines = calibrate(aside, _scores(reader, unseen))
    settings = artefact.Settings(
        base=artefact.identity(base),
        shape=asdict(SHAPE),
        alignment=lines.alignment,
        coherence=lines.coherence,
        blend=lines.blend,
        training={
            "examples": _content(examples),
            "recipe": asdict(recipe),
            "auc_on_subjects_set_aside": figures,
        },
    )
    artefact.write(out, settings, reader.trained())
    tell(f"written to {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True, help="SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, required=True, help="directory of the artefact")
    parser.add_argument("--data", type=Path, default=TRAINING_DIRECTORY)
    parser.add_argument("--passes", type=int, default=Recipe().passes)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    options = parser.parse_args(arguments)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    began = time.monotonic()

    def tell(line: str) -> None:
        print(f"[{time.monotonic() - began:6.0f} s] {line}", file=sys.stderr, flush=True)

    recipe = replace(Recipe(), passes=options.passes)
    train(options.base, read_training(options.data), options.out, recipe, tell)
    return 0


def _scores(reader: Reader, prepared: Sequence[Prepared]) -> list[tuple[float, float]]:
    return [(float(m), float(i)) for m, i in scores(reader, prepared)]


def _figures(examples: Sequence[Example], given: Sequence[tuple[float, float]]) -> dict[str, float]:
    """AUC of either score on examples that the network was not fitted to."""
    return {
        "misaligned": round(
            auc(
                [s for e, (s, _) in zip(examples, given, strict=True) if e.misaligned == 1],
                [s for e, (s, _) in zip(examples, given, strict=True) if e.misaligned == 0],
            ),
            4,
        ),
        "incoherent": round(
            auc(
                [s for e, (_, s) in zip(examples, given, strict=True) if e.incoherent == 1],
                [s for e, (_, s) in zip(examples, given, strict=True) if e.incoherent == 0],
            ),
            4,
        ),
    }


def _content(examples: Sequence[Example]) -> str:
    total = hashlib.sha256()
    for example in sorted(examples, key=lambda e: e.id):
        total.update(repr((example.id, example.exchange, example.label.value)).encode())
    return f"sha256:{total.hexdigest()}"


if __name__ == "__main__":
    raise SystemExit(main())
