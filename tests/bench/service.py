"""Prints how the service bears kills, and how fast it takes submissions.

    python tests/bench/service.py [--database sqlite|postgresql] [--submissions 500] [--workers 4]

(a) Submissions through worker processes that are killed with SIGKILL at random and started again:
exits with 1 unless each has exactly one verdict, all its samples once, and moved through every
state once. (b) Submissions per second beside a bare endpoint that inserts one row.
docs/durability.md quotes what it prints.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["HF_HUB_OFFLINE"] = "1"

from fakes.checkpoints import build_tiny_model

from bench.rate import rate
from bench.soak import soak
from workers.checkpoint.packaged import build_packaged_base

REPOSITORY = Path(__file__).resolve().parents[2]
TOKENIZER = REPOSITORY / ".gate" / "base" / "SmolLM2-135M-Instruct"
AIM = 0.4


def main() -> int:
    """Run what was asked for; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--only", choices=["soak", "rate"])
    parser.add_argument("--submissions", type=int, default=500)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kill-every", type=float, default=6.0, help="mean, in seconds")
    parser.add_argument("--deadline", type=float, default=1800.0, help="of the soak, in seconds")
    parser.add_argument("--turns", type=int, default=7, help="of each side of the rate")
    parser.add_argument("--requests", type=int, default=400, help="a turn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        tokenizer = build_packaged_base(TOKENIZER)
        base = build_tiny_model(tokenizer, place / "checkpoints" / "tiny")
        urls = ["", ""]
        if options.database == "postgresql":
            from postgresql import postgresql

            server = stack.enter_context(postgresql())
            urls = [server.new_database(), server.new_database()]
        broken = False
        if options.only != "rate":
            broken = _soak(place / "soak", base, tokenizer, urls[0], options)
        if options.only != "soak":
            _rate(place / "rate", base, tokenizer, urls[1], options)
    return int(broken)


def _soak(home: Path, base: Path, tokenizer: Path, url: str, options: argparse.Namespace) -> bool:
    done = soak(
        home,
        base,
        tokenizer,
        options.submissions,
        options.workers,
        options.kill_every,
        options.deadline,
        url,
        options.seed,
    )
    attempts = ", ".join(f"{count} took {n}" for n, count in sorted(done.attempts.items()))
    print(
        f"soak on {options.database}: {done.submissions} submissions, {options.workers} workers, "
        f"{done.killed_workers} workers and {done.killed_engines} engines killed, "
        f"{done.seconds:.0f} s: {done.verdicts} verdicts, {len(done.wrong)} things wrong; "
        f"attempts: {attempts}"
    )
    for words in done.wrong[:20]:
        print(f"  {words}")
    return bool(done.wrong)


def _rate(home: Path, base: Path, tokenizer: Path, url: str, options: argparse.Namespace) -> None:
    done = rate(home, base, tokenizer, options.turns, options.requests, url)
    print(
        f"rate on {options.database}: {statistics.median(done.api):.0f} submissions/s, bare "
        f"endpoint {statistics.median(done.bare):.0f} rows/s (medians of {options.turns} turns of "
        f"{options.requests}): ratio {done.ratio:.2f}, aim at least {AIM}"
    )
    for name, speeds in (("api", done.api), ("bare", done.bare)):
        print(f"  {name:<5}" + " ".join(f"{speed:7.0f}" for speed in speeds))


if __name__ == "__main__":
    sys.exit(main())
