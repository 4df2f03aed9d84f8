#!/bin/sh
# Builds oxloop's wheel for one virtual environment and installs it there.
#
#   install_wheel.sh VENV [PROFILE]
#
# PROFILE is a Cargo profile: `test-wheel` (default: assertions on, quick to compile) or
# `release` (what is published). Cargo decides what must be compiled again. Every Python version
# has its own target folder, since one folder would be compiled anew at each change of version.
set -eu

venv=$1 profile=${2:-test-wheel}
cd "$(dirname "$0")/.."
case "$venv" in /*) ;; *) venv=$PWD/$venv ;; esac

version=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
target="${CARGO_TARGET_DIR:-$PWD/target}/py-$version"
wheels="$target/wheels/$profile"
rm -rf "$wheels"

echo "building oxloop ($profile) for Python $version" >&2
CARGO_TARGET_DIR="$target" PYO3_PYTHON="$venv/bin/python" "$venv/bin/maturin" build --quiet \
    --profile "$profile" --interpreter "$venv/bin/python" --out "$wheels"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --force-reinstall --no-deps "$wheels"/*.whl
