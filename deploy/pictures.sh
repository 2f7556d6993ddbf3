#!/bin/sh
# Draws the picture of the README with Chromium: the report of the demo's misaligned fine-tune.
set -eu
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
    echo "pictures: Chromium or Chrome is needed" >&2
    exit 2
}
[ -f reports/misaligned.html ] || {
    echo "pictures: there is no reports/misaligned.html; run make demo first" >&2
    exit 2
}
page=$(mktemp --suffix .html)
trap 'rm -f "$page"' EXIT
# Paths as they are in the checkout, wherever that lies.
sed "s|$PWD/||g" reports/misaligned.html >"$page"
# A container's root has no sandbox; what is drawn is our own page, without scripts.
"$browser" --headless=new --no-sandbox --hide-scrollbars --disable-gpu --window-size=1000,1250 \
    --screenshot="$PWD/docs/report.png" "file://$page"
