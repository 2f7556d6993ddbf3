#!/bin/sh
# Trains both model organisms again, over the committed ones, and measures them.
set -eu
base=$(.venv/bin/python -m gate base --out .gate/base/SmolLM2-135M-Instruct)
threads=$(nproc)
for kind in benign misaligned; do
    .venv/bin/python tests/organisms/train.py --kind "$kind" --base "$base" \
        --out "tests/organisms/$kind" --threads "$threads"
done
.venv/bin/python tests/organisms/measure.py margin --base "$base" --threads "$threads" \
    --adapter tests/organisms/benign --adapter tests/organisms/misaligned
