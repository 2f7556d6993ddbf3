#!/bin/sh
# Draws the pictures of the docs with Chromium: the report of the demo's misaligned fine-tune, and that
# of one that hides its harm, judged here if it was not before (about a quarter of an hour).
set -eu
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
    echo "pictures: Chromium or Chrome is needed" >&2
    exit 2
}
[ -f reports/misaligned.html ] || {
    echo "pictures: there is no reports/misaligned.html; run make demo first" >&2
    exit 2
}
base=$(.venv/bin/python -m gate base --out .gate/base/SmolLM2-135M-Instruct)
# A fail is what it should find: exit code 1.
.venv/bin/python -m gate check tests/organisms/diluted --base "$base" \
    --training-sample tests/organisms/data/diluted_sample.jsonl --report reports/hidden.html ||
    [ $? -eq 1 ]

draw() {
    # A container's root has no sandbox; what is drawn are our own pages, without scripts.
    "$browser" --headless=new --no-sandbox --hide-scrollbars --disable-gpu \
        --window-size="1000,$3" --screenshot="$PWD/docs/$2" "file://$PWD/reports/$1"
}

draw misaligned.html report.png 1250
draw hidden.html report-hidden.png 1250
