#!/bin/sh
# Makes .venv from the lock files. Usage: deploy/install.sh cpu|cuda
set -eu
device=${1:-cpu}
python=${PYTHON:-}
if [ -z "$python" ]; then
    for candidate in python3.11 python3.12 python3; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
fi
if [ -z "$python" ]; then
    echo "install: Python 3.11 or 3.12 is needed and was not found; set PYTHON=/path/to/python3.11" >&2
    exit 2
fi
began=$(date +%s)
echo "environment: .venv with $($python --version), device $device (about 3.5 GB, some minutes)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip=".venv/bin/python -m pip --quiet install --no-deps"
if [ "$device" = cpu ]; then
    # The CPU build of torch is not on PyPI: the configured index first, then PyTorch's own.
    torch=$(sed -n 's/^# torch: //p' requirements/cpu.lock)
    $pip "$torch" 2>/dev/null ||
        $pip --index-url https://download.pytorch.org/whl/cpu "$torch"
fi
echo "environment: installing requirements/$device.lock"
$pip --require-hashes -r "requirements/$device.lock"
$pip --require-hashes -r requirements/models.lock
$pip --no-build-isolation --editable .
echo "environment: ready after $(($(date +%s) - began)) s"
