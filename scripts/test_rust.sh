#!/bin/sh
# Runs the Rust tests; their output goes to the terminal and, for sum_results.py, to RESULTS.
#
#   test_rust.sh RESULTS
#
# The extension crate has no Rust tests of its own: as a Python extension it cannot be linked into
# a test program, and tests/ covers it from Python.
set -eu

results=$1
cd "$(dirname "$0")/.."
mkdir -p "$results"
status=0
{ ${CARGO:-cargo} test --no-fail-fast --workspace --exclude oxloop-py 2>&1 || echo "$?" > "$results/rust.status"; } \
    | tee "$results/rust.log"
[ -f "$results/rust.status" ] && status=1 || echo 0 > "$results/rust.status"
exit "$status"
