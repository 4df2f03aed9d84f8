#!/bin/sh
# The hostile objects of tests/hostile against an extension that AddressSanitizer watches.
#
#   test_asan.sh RESULTS [COUNT [SEED]]
#
# Builds the extension with -Zsanitizer=address (RUSTC_BOOTSTRAP lets the stable compiler do it) and
# without pools of dead objects, and runs COUNT combinations. Before, it builds the extension with a
# planted use after free and asks that this is found: a run that cannot fail proves nothing.
# PYTHON names the interpreter. Writes RESULTS/asan.json and asan-planted.status, which
# sum_results.py reads; or asan.skipped, loudly, where there is no runtime library to preload.
set -eu

results=$1 count=${2:-6000} seed=${3:-7}
cd "$(dirname "$0")/.."
mkdir -p "$results"
python=${PYTHON:-$(sh scripts/find_python.sh 3.13 || sh scripts/find_python.sh)}
target=x86_64-unknown-linux-gnu
work="${CARGO_TARGET_DIR:-$PWD/target}/asan"
jobs=$(getconf _NPROCESSORS_ONLN)

skip() {
    echo "== SKIPPED: no run under AddressSanitizer: $1" >&2
    echo "$1" > "$results/asan.skipped"
    exit 0
}

[ "$(uname -sm)" = "Linux x86_64" ] || skip "it is set up for Linux on x86-64 only"
runtime=$(gcc -print-file-name=libasan.so 2>/dev/null) || skip "gcc, whose runtime is used, is absent"
[ -f "$runtime" ] || skip "gcc has no libasan.so"

# build NAME [FLAG...]: a package with an instrumented extension in $work/NAME. The flags are for
# oxloop's extension only; what it depends on is built once.
build() {
    package=$1
    shift
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address --cfg oxloop_no_pools" \
        PYO3_PYTHON="$python" CARGO_TARGET_DIR="$work/build" \
        ${CARGO:-cargo} rustc --quiet --package oxloop-py --lib --target "$target" -- "$@"
    rm -rf "${work:?}/$package"
    mkdir -p "$work/$package"
    cp -R python/oxloop "$work/$package/oxloop"
    cp "$work/build/$target/debug/lib_oxloop.so" "$work/$package/oxloop/_oxloop.so"
}

# watched NAME ARGUMENTS...: run combinations on the package NAME. Objects that lie about their length
# make Python ask for a terabyte: that must be a MemoryError here as well.
watched() {
    package=$work/$1
    shift
    env LD_PRELOAD="$runtime" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONMALLOC=malloc \
        PYTHONPATH="$package" "$python" -W ignore tests/hostile/batches.py --jobs "$jobs" "$@"
}

echo "== AddressSanitizer: a planted use after free must be found" >&2
build planted --cfg oxloop_planted_use_after_free || skip "the instrumented build failed"
if watched planted --count 2000 --seed 1 > "$work/planted.log" 2>&1 ||
    ! grep -q "ERROR: AddressSanitizer" "$work/planted.log"; then
    echo "== the planted use after free was NOT found" >&2
    tail -n 40 "$work/planted.log" >&2
    echo 1 > "$results/asan-planted.status"
    exit 1
fi
grep -m 3 "^WRONG" "$work/planted.log" >&2
echo 0 > "$results/asan-planted.status"

echo "== AddressSanitizer: $count hostile combinations" >&2
build plain
status=0
watched plain --count "$count" --seed "$seed" --json "$results/asan.json" || status=$?
echo "$status" > "$results/asan.status"
exit "$status"
