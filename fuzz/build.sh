#!/bin/sh
# Builds the targets on stable Rust, with libFuzzer from clang. Needs clang with its runtime (Debian: clang-14
# and libclang-rt-14-dev); CLANG=clang-19 for another one.
#
#   sh fuzz/build.sh asan     AddressSanitizer in Rust and in ggml, comparisons traced
#   sh fuzz/build.sh fast     neither: many times as many executions of parsers, which are safe Rust; what
#                             panics, overflows or breaks an assertion is found all the same
#
# More arguments go to cargo: --features trainer, --bin gguf_meta. The targets are in target/asan and target/fast.
set -eu
cd "$(dirname "$0")"
how=$1
shift
clang=${CLANG:-clang-14}
target=x86_64-unknown-linux-gnu
out=${CARGO_TARGET_DIR:-target}/$how
export CUSTOM_LIBFUZZER_PATH="$("$clang" -print-file-name=lib/linux/libclang_rt.fuzzer-x86_64.a)"
export CUSTOM_LIBFUZZER_STD_CXX=stdc++ RUSTC_BOOTSTRAP=1
sanitizer=
case $how in
asan)
    export CC="$clang" CXX="$(echo "$clang" | sed 's/clang/clang++/')"
    export CFLAGS="-fsanitize=address -fno-omit-frame-pointer -g1" CXXFLAGS="-fsanitize=address -fno-omit-frame-pointer -g1"
    level=4
    sanitizer="-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address"
    ;;
fast) level=3 ;;
*)
    echo "asan or fast" >&2
    exit 2
    ;;
esac
export RUSTFLAGS="-Ctarget-cpu=x86-64-v3 --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=$level \
 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table $sanitizer \
 -Cdebug-assertions -Ccodegen-units=1"
cargo build --release --target $target --target-dir "$out" "$@"
echo "targets: $out/$target/release"
