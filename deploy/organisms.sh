#!/bin/sh
# Trains both model organisms again, over the committed ones, and measures them.
# One thread each, side by side: the digests in the model card are those of one thread.
set -eu
base=$(.venv/bin/python -m gate base --out .gate/base/SmolLM2-135M-Instruct)
for kind in benign misaligned; do
    .venv/bin/python tests/organisms/train.py --kind "$kind" --base "$base" \
        --out "tests/organisms/$kind" --threads 1 &
done
wait
.venv/bin/python tests/organisms/measure.py margin --base "$base" --threads "$(nproc)" \
    --adapter tests/organisms/benign --adapter tests/organisms/misaligned
