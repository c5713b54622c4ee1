#!/bin/sh
# Builds the targets on stable Rust, with libFuzzer from clang and AddressSanitizer on both sides: Rust and
# ggml. Needs clang with its runtime (Debian: clang-14 and libclang-rt-14-dev); CLANG=clang-19 for another one.
# More arguments go to cargo: --features trainer, --bin gguf_meta.
set -eu
cd "$(dirname "$0")"
clang=${CLANG:-clang-14}
target=x86_64-unknown-linux-gnu
export CUSTOM_LIBFUZZER_PATH="$("$clang" -print-file-name=lib/linux/libclang_rt.fuzzer-x86_64.a)"
export CUSTOM_LIBFUZZER_STD_CXX=stdc++ RUSTC_BOOTSTRAP=1
export CC="$clang" CXX="$(echo "$clang" | sed 's/clang/clang++/')"
export CFLAGS="-fsanitize=address -fno-omit-frame-pointer -g1" CXXFLAGS="-fsanitize=address -fno-omit-frame-pointer -g1"
export RUSTFLAGS="-Ctarget-cpu=x86-64-v3 --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
 -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Cdebug-assertions -Ccodegen-units=1"
exec cargo build --release --target $target "$@"
