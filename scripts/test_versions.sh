#!/bin/sh
# Builds and tests oxloop on several versions of Python, each in its own .venv-X.Y.
#
#   test_versions.sh RESULTS VERSION... [demo] [search] [asan]
#   test_versions.sh --one RESULTS JOB ECOSYSTEM    (what the above starts)
#
# What else may run beside a version: `demo` is `make demo`, `search` the simulation, torture, planted
# bugs and models of the core, `asan` the run under AddressSanitizer.
# Two jobs run at a time, the longest first. A version that is absent is skipped, loudly. The
# programs of tests/ecosystem run once, on the newest version up to 3.13 that is found (ECOSYSTEM):
# their wheels exist there for certain.
# Exit status 1 when anything failed.
set -u

cd "$(dirname "$0")/.."

# step NAME COMMAND...: run it, remember its exit status for sum_results.py.
step() {
    name=$1
    shift
    echo "== $name" >&2
    status=0
    "$@" </dev/null || status=$?
    echo "$status" > "$results/$name.status"
    [ "$status" -eq 0 ] || echo "== $name FAILED (exit status $status)" >&2
    return "$status"
}

# Everything about one version.
test_version() {
    venv=.venv-$version
    if ! python=$(sh scripts/find_python.sh "$version"); then
        echo "== SKIPPED: Python $version is absent, nothing is tested on it" >&2
        echo absent > "$results/python-$version.skipped"
        return 0
    fi
    echo "== Python $version: $python" >&2
    step "venv-$version" sh scripts/make_venv.sh "$python" "$venv" requirements/test.txt || return 1
    step "build-$version" sh scripts/install_wheel.sh "$venv" || return 1
    options=
    if [ "$version" = "$ecosystem" ]; then
        step "programs-$version" sh scripts/make_venv.sh "$python" "$venv" \
            requirements/ecosystem.txt && options=--ecosystem || true
    fi
    # A shell's background command ignores SIGINT, and its children with it: tests send that signal.
    env --default-signal=INT sh scripts/test_python.sh "$venv" "$results" $options
}

if [ "$1" = --one ]; then
    results=$2 version=$3 ecosystem=$4
    # The output of a job comes in one piece, when it has ended.
    output=$results/python-$version.output status=0
    case "$version" in
        demo) step demo make --no-print-directory demo > "$output" 2>&1 || status=1 ;;
        search) sh scripts/test_simulation.sh "$results" 10000 > "$output" 2>&1 || status=1 ;;
        asan) step asan sh scripts/test_asan.sh "$results" > "$output" 2>&1 || status=1 ;;
        *) test_version > "$output" 2>&1 || status=1 ;;
    esac
    cat "$output"
    exit "$status"
fi

results=$1
shift
mkdir -p "$results"

ecosystem=none
for version in 3.11 3.12 3.13; do
    case " $* " in *" $version "*)
        if sh scripts/find_python.sh "$version" >/dev/null 2>&1; then ecosystem=$version; fi ;;
    esac
done

# One after the other would leave a processor idle: most tests wait.
{
    case " $* " in *" $ecosystem "*) echo "$ecosystem" ;; esac
    for version in "$@"; do
        [ "$version" = "$ecosystem" ] || echo "$version"
    done
} | xargs -P 2 -I VERSION sh scripts/test_versions.sh --one "$results" VERSION "$ecosystem"
