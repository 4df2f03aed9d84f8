#!/bin/sh
# Searches the core for bugs: simulation, torture, planted bugs, and the models of loom.
#
#   test_simulation.sh RESULTS [SEEDS]
#
# SEEDS seeds (10,000) are run, the first 200 twice. The totals go to RESULTS for sum_results.py. The
# log of each part is in RESULTS too. CARGO_TARGET_DIR builds elsewhere than in target/.
set -u

results=$1
seeds=${2:-10000}
cd "$(dirname "$0")/.."
mkdir -p "$results"
target=${CARGO_TARGET_DIR:-target}
cargo=${CARGO:-cargo}
failed=0

# step NAME COMMAND...: run it, remember its exit status for sum_results.py.
step() {
    name=$1
    shift
    "$@" </dev/null
    status=$?
    echo "$status" > "$results/$name.status"
    [ "$status" -eq 0 ] || { failed=1; echo "== $name FAILED (exit status $status)" >&2; }
    return "$status"
}

step simulation-build "$cargo" build --quiet -p oxloop-sim --profile test-wheel || exit 1
search=$target/test-wheel/oxloop-sim
step simulation "$search" run --seeds "$seeds" --twice 200 --json "$results/simulation.json"
step torture "$search" torture --pairs 200 --json "$results/torture.json"

step mutants sh scripts/mutants.sh "$results"

loom() {
    sh scripts/loom.sh > "$results/loom.log" 2>&1
    status=$?
    cat "$results/loom.log"
    return "$status"
}
step loom loom

exit "$failed"
