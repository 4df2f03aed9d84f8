#!/bin/sh
# Runs the models of the injector and its wakeup, over every interleaving of three preemptions.
#
# Their build is one of its own: --cfg loom exchanges locks and flags for those of the model.
set -eu

cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom" \
    exec "${CARGO:-cargo}" test --profile test-wheel -p oxloop-core --test loom
