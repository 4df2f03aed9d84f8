#!/bin/sh
# Runs the Python tests and CPython's own tests for one virtual environment.
#
#   test_python.sh VENV RESULTS [--ecosystem]
#
# Writes into the folder RESULTS: junit XML, conformance JSON and exit statuses, each named after
# the Python version; sum_results.py reads them. With --ecosystem the tests of real programs run
# too (their requirements must be installed). Exit status 1 when anything failed.
set -eu

venv=$1 results=$2 ecosystem=${3:-}
cd "$(dirname "$0")/.."
case "$venv" in /*) ;; *) venv=$PWD/$venv ;; esac
python="$venv/bin/python"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
mkdir -p "$results"
failed=0

# step NAME COMMAND...: run it, remember its exit status for sum_results.py.
step() {
    name=$1
    shift
    echo "== $name" >&2
    status=0
    "$@" </dev/null || status=$?
    echo "$status" > "$results/$name.status"
    [ "$status" -eq 0 ] || failed=1
}

# Random programs against asyncio of the version that oxloop follows.
case "$version" in 3.13) export OXLOOP_DIFFERENTIAL_PROGRAMS=20000 ;; esac

step "pytest-$version" "$python" -m pytest tests --ignore=tests/ecosystem \
    --ignore=tests/conformance --junit-xml="$results/pytest-$version.xml"
# These mostly wait, so more of them run at a time than there are processors.
step "conformance-$version" "$python" tests/conformance/run.py -j 4 --debug \
    --json "$results/conformance-$version.json"
if [ "$ecosystem" = --ecosystem ]; then
    step "ecosystem-$version" "$python" -m pytest tests/ecosystem \
        --junit-xml="$results/ecosystem-$version.xml"
fi
exit "$failed"
