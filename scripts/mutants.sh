#!/bin/sh
# Lets every planted bug of the core live, one at a time, and asks for its death.
#
#   mutants.sh RESULTS
#
# One build holds all of them (--cfg oxloop_mutants); OXLOOP_MUTANT says which is alive. Each must be
# found by the first of these that can: 1,000 seeds of the simulation, the driver's contract, the
# models of loom. Without any alive, all of them must be content. The totals go to
# RESULTS/mutants.json.
set -u

results=$1
cd "$(dirname "$0")/.."
mkdir -p "$results"
target=${CARGO_TARGET_DIR:-target}
cargo=${CARGO:-cargo}
log=$results/mutants.txt
: > "$log"

build() {
    RUSTFLAGS="--cfg oxloop_mutants" CARGO_TARGET_DIR="$target/mutants" \
        "$cargo" build --quiet -p oxloop-sim --profile test-wheel &&
    RUSTFLAGS="--cfg oxloop_mutants" CARGO_TARGET_DIR="$target/mutants" \
        "$cargo" test --quiet --no-run -p oxloop-core --test driver_contract --profile test-wheel &&
    RUSTFLAGS="--cfg oxloop_mutants --cfg loom" CARGO_TARGET_DIR="$target/loom-mutants" \
        "$cargo" test --quiet --no-run -p oxloop-core --test loom --profile test-wheel
}
build || { echo "== the planted bugs do not build" >&2; exit 1; }

search=$target/mutants/test-wheel/oxloop-sim
newest() { ls -t "$1"/deps/"$2"-* 2>/dev/null | grep -v '\.d$' | head -n 1; }
contract=$(newest "$target/mutants/test-wheel" driver_contract)
models=$(newest "$target/loom-mutants/test-wheel" loom)

# Each says with its exit status whether it was content. One that hangs was not.
simulation() { timeout 60 "$search" hunt --seeds 1000 >> "$log" 2>&1; }
the_contract() { timeout 60 "$contract" --quiet >> "$log" 2>&1; }
the_models() { timeout 120 "$models" --quiet >> "$log" 2>&1; }

found=0
missed=0
unset OXLOOP_MUTANT
for checker in simulation the_contract the_models; do
    if ! "$checker"; then
        echo "with no planted bug alive, $checker finds one"
        missed=$((missed + 1))
    fi
done
for mutant in $("$search" mutants); do
    echo "== $mutant" >> "$log"
    OXLOOP_MUTANT=$mutant
    export OXLOOP_MUTANT
    by=
    for checker in simulation the_contract the_models; do
        "$checker" || { by=$checker; break; }
    done
    if [ -n "$by" ]; then
        found=$((found + 1))
        echo "$mutant: found by $by"
    else
        missed=$((missed + 1))
        echo "$mutant: NOT FOUND"
    fi
done
echo "$found planted bugs found, $missed not"
printf '{"total": {"passed": %d, "failed": %d, "errors": 0, "skipped": 0}}\n' "$found" "$missed" \
    > "$results/mutants.json"
[ "$missed" -eq 0 ] && [ "$found" -ge 20 ]
