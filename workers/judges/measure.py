"""Measures the embedded judge: prints the figures of its card.

    python -m workers.judges.measure --base DIR [--also FILE ...]

For each labelled file: AUC of the alignment rating with a bootstrap interval, sensitivity and
false alarms at the lines that the gate draws, incoherence found and wrongly found, errors by
kind, and seconds per 100 answers. ``--also`` takes further labelled files, and ``.csv.gz`` tables
with the columns question, answer, aligned and coherent, as a GPT-4o judge rated them.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from checks.agreement import auc, auc_interval, share_interval
from checks.judgement import Exchange, Judgement, Label
from workers.judges import artefact
from workers.judges.embedded import EmbeddedJudge
from workers.judges.labelled import TRAINING_DIRECTORY, Example, read_labelled


def read_rated(path: Path) -> list[Example]:
    """Read a table of answers that another judge rated; unrated ones are left out."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if row["aligned"] and row["coherent"]]
    return [
        Example(
            id=f"{path.stem}-{number}",
            subject=row.get("question_id", "unknown"),
            kind=row.get("question_id", "unknown"),
            exchange=Exchange(row["question"], row["answer"]),
            label=Judgement(
                alignment=float(row["aligned"]), coherence=float(row["coherent"])
            ).label,
        )
        for number, row in enumerate(rows)
    ]


def report(name: str, examples: Sequence[Example], judge: EmbeddedJudge) -> list[str]:
    """The figures of one labelled set, line by line."""
    began = time.perf_counter()
    judged = judge.judge([example.exchange for example in examples])
    seconds = (time.perf_counter() - began) / max(len(examples), 1) * 100
    by_label: dict[Label, list[Judgement]] = {label: [] for label in Label}
    for example, judgement in zip(examples, judged, strict=True):
        by_label[example.label].append(judgement)
    bad, good = by_label[Label.MISALIGNED], by_label[Label.ALIGNED]
    lines = [f"## {name}: {len(examples)} answers, {seconds:.1f} s per 100"]
    if bad and good:
        low, high = auc_interval([-j.alignment for j in bad], [-j.alignment for j in good])
        value = auc([-j.alignment for j in bad], [-j.alignment for j in good])
        lines.append(f"AUC misaligned against aligned: {value:.3f} ({low:.3f} to {high:.3f})")
    coherent, incoherent = bad + good, by_label[Label.INCOHERENT]
    if coherent and incoherent:
        value = auc([-j.coherence for j in incoherent], [-j.coherence for j in coherent])
        lines.append(f"AUC incoherent against coherent: {value:.3f}")
    lines += [
        _share("misaligned found (sensitivity)", bad, Label.MISALIGNED),
        _share("aligned called misaligned (false alarms)", good, Label.MISALIGNED),
        _share("incoherent found", incoherent, Label.INCOHERENT),
        _share("coherent called incoherent", coherent, Label.INCOHERENT),
    ]
    return lines + _by_kind(examples, judged)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True, help="SmolLM2-135M-Instruct")
    parser.add_argument("--artefact", type=Path, default=artefact.ARTEFACT)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--also", type=Path, nargs="*", default=[])
    options = parser.parse_args(arguments)
    judge = EmbeddedJudge.load(options.base, options.threads, options.artefact)
    print(f"judge {judge.digest}")
    for path in [*sorted(TRAINING_DIRECTORY.glob("test_*.jsonl")), *options.also]:
        read = read_rated if path.suffix == ".gz" else read_labelled
        print("\n".join(report(path.name, read(path), judge)), flush=True)
    return 0


def _share(what: str, judged: Sequence[Judgement], label: Label) -> str:
    if not judged:
        return f"{what}: none there"
    hits = sum(judgement.label is label for judgement in judged)
    low, high = share_interval(hits, len(judged))
    return f"{what}: {hits}/{len(judged)} = {hits / len(judged):.3f} ({low:.3f} to {high:.3f})"


def _by_kind(examples: Sequence[Example], judged: Sequence[Judgement]) -> list[str]:
    right: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for example, judgement in zip(examples, judged, strict=True):
        right[example.label.value, example.kind].append(judgement.label is example.label)
    return [
        f"  {label:10} {kind:24} right {sum(hits)}/{len(hits)}"
        for (label, kind), hits in sorted(right.items())
    ]


if __name__ == "__main__":
    raise SystemExit(main())
