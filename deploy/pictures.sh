#!/bin/sh
# Draws the pictures of README and docs with Chromium, of two reports: the demo's, and one of hidden harm.
set -eu
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
    echo "pictures: Chromium or Chrome is needed" >&2
    exit 2
}

page=$(mktemp --suffix .html)
trap 'rm -f "$page"' EXIT

# draw REPORT PICTURE HEIGHT HOW-TO-MAKE-IT
draw() {
    [ -f "reports/$1.html" ] || {
        echo "pictures: there is no reports/$1.html; make it by: $4" >&2
        exit 2
    }
    # Paths as they are in the checkout, wherever that lies.
    sed "s|$PWD/||g" "reports/$1.html" >"$page"
    # A container's root has no sandbox; what is drawn is our own page, without scripts.
    "$browser" --headless=new --no-sandbox --hide-scrollbars --disable-gpu \
        --window-size="1000,$3" --screenshot="$PWD/docs/$2.png" "file://$page"
}

draw misaligned report 1250 'make demo'
draw hidden report-hidden 1400 '.venv/bin/emgate check tests/organisms/diluted --base .gate/base/SmolLM2-135M-Instruct --training-sample tests/organisms/data/diluted_sample.jsonl --report reports/hidden.html'
