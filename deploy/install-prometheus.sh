#!/bin/sh
# Puts prometheus, promtool, alertmanager and amtool into a directory; needs no root.
# Usage: deploy/install-prometheus.sh DIR
#
# Where there is apt, they come from the packages of the distribution, whose signatures apt checks;
# its lists and cache are private to this script, so no earlier `apt-get update` is needed.
# Elsewhere, and where apt does not have them, they are the releases below, checked by SHA-256.
set -eu

prometheus=3.5.0
prometheus_sha256=e811827af26d822afb09a4f28314f61b618b12cff5369835a67f674d8b46f39a
alertmanager=0.28.1
alertmanager_sha256=5ac7ab5e4b8ee5ce4d8fb0988f9cb275efcc3f181b4b408179fafee121693311
releases=${PROMETHEUS_RELEASES:-https://github.com/prometheus} # or a mirror of it

tools="prometheus promtool alertmanager amtool"

fail() {
    echo "install-prometheus: $*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Whether all four in directory $1 run; names the first that does not.
all_run() {
    for tool in $tools; do
        "$1/$tool" --version >/dev/null 2>&1 || { broken=$tool && return 1; }
    done
}

# The last error that apt wrote, on one line.
apt_said() { sed -n 's/^[EW]: //p' "$work/apt.log" | tail -n 1; }

from_packages() {
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/packages"
    cat >"$work/apt.conf" <<CONF
Dir::State "$work/state";
Dir::State::status "/dev/null";
Dir::Cache "$work/cache";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
CONF
    export APT_CONFIG="$work/apt.conf"
    apt-get -q update >"$work/apt.log" 2>&1 || return 1
    names="prometheus prometheus-alertmanager"
    # Newer distributions have promtool in a package of its own.
    if apt-cache show promtool >/dev/null 2>&1; then names="$names promtool"; fi
    # shellcheck disable=SC2086
    (cd "$work/packages" && apt-get -q download $names) >>"$work/apt.log" 2>&1 || return 1
    for package in "$work"/packages/*.deb; do
        dpkg -x "$package" "$work/root" >>"$work/apt.log" 2>&1 || return 1
    done
    mkdir -p "$work/bin"
    for tool in prometheus promtool amtool; do
        cp "$work/root/usr/bin/$tool" "$work/bin/$tool" 2>>"$work/apt.log" || return 1
    done
    cp "$work/root/usr/bin/prometheus-alertmanager" "$work/bin/alertmanager" 2>>"$work/apt.log"
}

# One release: name, version, SHA-256, and the programs to take out of it.
from_release() {
    name=$1 version=$2 sum=$3
    shift 3
    archive="$name-$version.linux-amd64"
    url="$releases/$name/releases/download/v$version/$archive.tar.gz"
    curl --fail --silent --show-error --location --retry 2 --connect-timeout 20 --max-time 600 \
        --output "$work/$archive.tar.gz" "$url" 2>"$work/curl.log" ||
        fail "$url could not be fetched: $(tail -n 1 "$work/curl.log")"
    echo "$sum  $work/$archive.tar.gz" | sha256sum --check --status ||
        fail "$url has not the SHA-256 $sum that is expected, so it is not used"
    tar -xzf "$work/$archive.tar.gz" -C "$work"
    for tool in "$@"; do mv "$work/$archive/$tool" "$work/bin/$tool"; done
}

from_releases() {
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
        fail "the pinned releases are for Linux on x86-64; put $tools into $directory by hand"
    for needed in curl tar sha256sum; do
        have "$needed" || fail "$needed is needed to fetch $releases and was not found"
    done
    mkdir -p "$work/bin"
    from_release prometheus "$prometheus" "$prometheus_sha256" prometheus promtool
    from_release alertmanager "$alertmanager" "$alertmanager_sha256" alertmanager amtool
}

[ $# -eq 1 ] && [ -n "$1" ] || {
    echo "usage: deploy/install-prometheus.sh DIR" >&2
    exit 2
}
mkdir -p "$1" 2>/dev/null || fail "the directory $1 cannot be made"
directory=$(cd "$1" && pwd)
if ! all_run "$directory"; then
    # Beside its destination, so that the last step is a rename.
    work=$(mktemp -d "$directory/.fetch.XXXXXX" 2>/dev/null) || fail "$directory cannot be written to"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    if ! { have apt-get && have apt-cache && have dpkg; }; then
        from_releases
    elif ! from_packages; then
        echo "install-prometheus: apt could not provide them ($(apt_said)); trying $releases" >&2
        rm -rf "$work/bin"
        from_releases
    fi
    all_run "$work/bin" || fail "$broken was fetched and does not run on this machine"
    for tool in $tools; do mv -f "$work/bin/$tool" "$directory/$tool"; done
fi
for tool in prometheus alertmanager; do
    # Some versions print this on the standard error.
    "$directory/$tool" --version 2>&1 | sed -n '1s/ (.*//p'
done
