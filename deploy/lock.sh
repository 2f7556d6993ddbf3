#!/bin/sh
# Writes both lock files from pyproject.toml. Usage: deploy/lock.sh, with uv in .venv or on PATH.
# Extra places to look for packages can be given: UV_FIND_LINKS=DIR deploy/lock.sh
set -eu
uv=$(command -v .venv/bin/uv || command -v uv) || { echo "lock: uv is needed: pip install uv" >&2; exit 2; }
compile="$uv pip compile --quiet --python-version 3.11 --no-annotate --no-header --generate-hashes --no-emit-find-links"
# torchvision, torchaudio and torchcodec on PyPI are built for CUDA and break transformers on a CPU.
$compile pyproject.toml --extra cpu --extra stores --extra tracing --extra dev --output-file requirements/cpu.lock \
    --no-emit-package torch --no-emit-package torchvision --no-emit-package torchaudio \
    --no-emit-package torchcodec
$compile pyproject.toml --extra cuda --extra stores --extra tracing --extra dev --output-file requirements/cuda.lock \
    --python-platform x86_64-manylinux_2_28
torch=$(sed -n 's/.*"\(torch==[^"]*+cpu\)".*/\1/p' pyproject.toml)
sed -i "1i # Installed by deploy/install.sh. The CPU build of torch is installed before this file:\n# torch: $torch" requirements/cpu.lock
