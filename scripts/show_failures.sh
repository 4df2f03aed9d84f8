#!/bin/sh
# Shows why steps of the Python tests failed: the end of what each of them printed.
#
#   show_failures.sh RESULTS
#
# The output of all jobs of test_versions.sh is long; who reads only its end must find the reason there.
# Reads RESULTS/python-JOB.output, where "== STEP" opens each step's part, and RESULTS/STEP.status.
set -eu

results=$1
lines=60
for status in "$results"/*.status; do
    step=$(basename "$status" .status)
    output=$results/python-${step##*-}.output
    case "$step" in
        demo | asan*) output=$results/python-${step%%-*}.output ;;
        simulation* | torture | mutants | loom) output=$results/python-search.output ;;
    esac
    if [ "$(cat "$status")" = 0 ] || [ ! -f "$output" ]; then continue; fi
    printf '\n==== the last %s lines of %s\n' "$lines" "$step"
    if ! grep -qx "== $step" "$output"; then
        tail -n "$lines" "$output"
        continue
    fi
    # From the step's own heading to that of the next.
    awk -v heading="== $step" '
        $0 == heading { inside = 1; next }
        inside && /^== [a-z]+-3\.[0-9]+/ && index($0, heading " FAILED") != 1 { exit }
        inside { print }
    ' "$output" | tail -n "$lines"
done
