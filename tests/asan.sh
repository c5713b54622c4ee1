#!/bin/sh
# The whole test suite with AddressSanitizer in Rust and in ggml. Not part of the normal test run: everything is built again,
# half an hour of two processors and 5 GB.
#
#   sh tests/asan.sh
#
# CLANG=clang-19 where clang-14 is not the one. Left out is what cannot run so: programs that a compiler without the sanitizer links
# (capi, cpp, jni; `tests/c/sanitize.sh` has those in C), growth (the sanitizer keeps what is freed), and faults of memory in the command
# (it has an allocator of its own).
set -eu
cd "$(dirname "$0")/.."
clang=${CLANG:-clang-14}
export RUSTC_BOOTSTRAP=1 CC="$clang" CXX="$(echo "$clang" | sed 's/clang/clang++/')"
export CFLAGS="-fsanitize=address -fno-omit-frame-pointer -g1" CXXFLAGS="-fsanitize=address -fno-omit-frame-pointer -g1"
export RUSTFLAGS="-Ctarget-cpu=x86-64-v3 -Zsanitizer=address" CARGO_INCREMENTAL=0
export CARGO_PROFILE_TEST_DEBUG=line-tables-only CARGO_PROFILE_DEV_DEBUG=line-tables-only
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 REMASK_TEST_SANITIZER=1
library=
for file in tests/*.rs; do
    name=$(basename "$file" .rs)
    case $name in
    capi | cpp | jni | soak) ;;
    *) library="$library --test $name" ;;
    esac
done
run() {
    cargo test --target x86_64-unknown-linux-gnu --target-dir "${CARGO_TARGET_DIR:-target}/asan" --no-fail-fast "$@"
}
# shellcheck disable=SC2086
run --package remask --lib $library
run --package remask-cli --package remask-trainer --bins --tests -- --skip outputs_are_whole_or_not_there_whatever_fails
