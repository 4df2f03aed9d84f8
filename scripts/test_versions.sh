#!/bin/sh
# Builds and tests oxloop on several versions of Python, each in its own .venv-X.Y.
#
#   test_versions.sh RESULTS VERSION...
#
# A version that is absent is skipped, loudly. The programs of tests/ecosystem run once, on the
# newest version up to 3.13 that is found: their wheels exist there for certain.
# Exit status 1 when anything failed.
set -eu

results=$1
shift
cd "$(dirname "$0")/.."
mkdir -p "$results"
failed=0

# step NAME COMMAND...: run it, remember its exit status for sum_results.py.
step() {
    name=$1
    shift
    status=0
    "$@" </dev/null || status=$?
    echo "$status" > "$results/$name.status"
    [ "$status" -eq 0 ] || { failed=1; echo "== $name FAILED (exit status $status)" >&2; }
    return "$status"
}

ecosystem=
for version in 3.11 3.12 3.13; do
    case " $* " in *" $version "*)
        if sh scripts/find_python.sh "$version" >/dev/null 2>&1; then ecosystem=$version; fi ;;
    esac
done

for version in "$@"; do
    venv=.venv-$version
    if ! python=$(sh scripts/find_python.sh "$version"); then
        echo "== SKIPPED: Python $version is absent, nothing is tested on it" >&2
        echo absent > "$results/python-$version.skipped"
        continue
    fi
    echo "== Python $version: $python" >&2
    step "venv-$version" sh scripts/make_venv.sh "$python" "$venv" requirements/test.txt || continue
    step "build-$version" sh scripts/install_wheel.sh "$venv" || continue
    options=
    if [ "$version" = "$ecosystem" ]; then
        step "programs-$version" sh scripts/make_venv.sh "$python" "$venv" \
            requirements/ecosystem.txt && options=--ecosystem || true
    fi
    sh scripts/test_python.sh "$venv" "$results" $options || failed=1
done
exit "$failed"
