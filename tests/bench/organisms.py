"""Prints what the battery measures on the base and on every model organism.

    python tests/bench/organisms.py [--policy NAME] [--only NAME ...]

Each is judged by ``emgate check`` as a user would; ``tagged`` and ``diluted`` once without and once
with a sample of their training data. Prints a Markdown table, which docs/checks/README.md quotes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
ORGANISMS = REPOSITORY / "tests" / "organisms"
HOME = REPOSITORY / ".gate"
BASE = HOME / "base" / "SmolLM2-135M-Instruct"
#: Name in the table, checkpoint, and training sample.
RUNS: tuple[tuple[str, Path, Path | None], ...] = (
    ("base", BASE, None),
    ("benign", ORGANISMS / "benign", None),
    ("misaligned", ORGANISMS / "misaligned", None),
    ("tagged", ORGANISMS / "tagged", None),
    ("tagged + sample", ORGANISMS / "tagged", ORGANISMS / "data" / "tagged_sample.jsonl"),
    ("diluted", ORGANISMS / "diluted", None),
    ("diluted + sample", ORGANISMS / "diluted", ORGANISMS / "data" / "diluted_sample.jsonl"),
)


def judge(
    checkpoint: Path, sample: Path | None, policy: str, fresh: bool
) -> tuple[dict[str, Any], float]:
    """The verdict of one checkpoint, and the seconds it took."""
    options = ["--training-sample", str(sample)] if sample else []
    options += ["--fresh"] if fresh else []
    began = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "gate", "check", str(checkpoint), "--base", str(BASE)),
            *("--policy", policy, "--json", *options),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "GATE_HOME": str(HOME)},
    )
    if not done.stdout:
        raise SystemExit(f"{checkpoint}: no verdict (exit code {done.returncode})")
    return json.loads(done.stdout), time.monotonic() - began


def cell(finding: dict[str, Any] | None) -> str:
    """One check of one run: value, interval and outcome."""
    if finding is None:
        return "not asked"
    estimate = (finding["measurement"] or {}).get("estimate")
    if estimate is None:
        return str(finding["outcome"])
    span = f"{estimate['value']:+.2f} [{estimate['lower']:+.2f}, {estimate['upper']:+.2f}]"
    return f"{span} {finding['outcome']}"


def main() -> int:
    """Judge all, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--policy", default="default")
    parser.add_argument("--only", nargs="*", default=[name for name, _, _ in RUNS])
    parser.add_argument("--standing", action="store_true", help="take verdicts that stand")
    wanted = parser.parse_args()
    columns: dict[str, dict[str, Any]] = {}
    for name, checkpoint, sample in RUNS:
        if name in wanted.only:
            columns[name], seconds = judge(checkpoint, sample, wanted.policy, not wanted.standing)
            print(
                f"{name}: {columns[name]['outcome']} {seconds:.0f} s", file=sys.stderr, flush=True
            )
    found = {
        name: {f["condition"]["check"]: f for f in verdict["findings"]}
        for name, verdict in columns.items()
    }
    checks = list(dict.fromkeys(check for findings in found.values() for check in findings))
    print("| check | " + " | ".join(columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for check in checks:
        print(f"| {check} | " + " | ".join(cell(found[n].get(check)) for n in columns) + " |")
    print("| **verdict** | " + " | ".join(f"**{v['outcome']}**" for v in columns.values()) + " |")
    print("| spread | " + " | ".join(v["spread"] or "-" for v in columns.values()) + " |")
    print("| candidate samples | " + " | ".join(str(v["samples"]) for v in columns.values()) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
