#!/bin/sh
# The C tests under valgrind, AddressSanitizer with UBSan, and ThreadSanitizer. Not part of the normal test
# run: the sanitizers build ggml again, some minutes each.
#
#   sh tests/c/sanitize.sh MODEL valgrind|asan|tsan
#
# MODEL is a golden one: `remask convert shared/vectors/checkpoints/llada-gqa-tiny -o MODEL`. THREADS="16 50" and
# ROUNDS=20 are longer runs.
set -eu
cd "$(dirname "$0")/../.."
model=$1
target=x86_64-unknown-linux-gnu
out=${CARGO_TARGET_DIR:-target}/sanitize-$2
# CLANG=clang-14 where it has no other name.
clang=${CLANG:-clang}
clangxx=$(echo "$clang" | sed 's/clang/clang++/')
programs="generate args threads races"

compile() { # compiler, flags, folder of the library
    for name in $programs; do
        # shellcheck disable=SC2086
        $1 -std=c11 -g -O1 $2 -Iinclude "tests/c/$name.c" -o "$out/$name" \
            -L"$3" -Wl,-rpath,"$3" -lremask -lpthread -lm -lstdc++
    done
}

run() { # what to run them with
    # Each line by itself, so that a failure ends the script.
    # shellcheck disable=SC2086
    $1 "$out/generate" "$model" > "$out/tokens"
    echo "generate: nothing"
    # shellcheck disable=SC2086
    $1 "$out/args" "$model"
    echo "args: nothing"
    # shellcheck disable=SC2086
    $1 "$out/threads" "$model" ${THREADS:-4 2}
    echo "threads: nothing"
    # shellcheck disable=SC2086
    $1 "$out/races" "$model" "${ROUNDS:-1}"
    echo "races: nothing"
}

mkdir -p "$out"
unset LD_LIBRARY_PATH
case $2 in
valgrind)
    # With the workspace's features, so that what the tests were built with is taken.
    cargo build --workspace
    compile cc "" "$(cd "${CARGO_TARGET_DIR:-target}/debug" && pwd)"
    run "valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect"
    ;;
asan)
    CC=$clang CXX=$clangxx CFLAGS="-fsanitize=address,undefined -fno-omit-frame-pointer" \
        CXXFLAGS="-fsanitize=address,undefined -fno-omit-frame-pointer" \
        RUSTFLAGS="-C target-cpu=x86-64-v3 -Clinker=$clang -Clink-arg=-fsanitize=address,undefined" \
        cargo build --package remask --target $target --target-dir "$out"
    # The library is C++ too, and so is what UBSan needs.
    compile "$clang" "-fsanitize=address,undefined -fsanitize-link-c++-runtime" "$(cd "$out/$target/debug" && pwd)"
    # UBSan only prints, unless told to stop.
    export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1"
    run ""
    ;;
tsan)
    CC=$clang CXX=$clangxx CFLAGS=-fsanitize=thread CXXFLAGS=-fsanitize=thread RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="-C target-cpu=x86-64-v3 -Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
        cargo build --package remask --target $target --target-dir "$out"
    # Rust calls functions of its own, newer runtime: the programs are linked with that one.
    runtime=$(rustc --print sysroot)/lib/rustlib/$target/lib/librustc-stable_rt.tsan.a
    library=$(cd "$out/$target/debug" && pwd)
    for name in $programs; do
        $clang -std=c11 -g -O1 -fsanitize=thread -Iinclude -c "tests/c/$name.c" -o "$out/$name.o"
        $clangxx "$out/$name.o" -o "$out/$name" -rdynamic -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive \
            -L"$library" -Wl,-rpath,"$library" -lremask -lpthread -lm -ldl
    done
    # ThreadSanitizer wants memory where it expects it.
    export TSAN_OPTIONS="suppressions=$PWD/tests/c/tsan.supp"
    run "setarch -R"
    ;;
*)
    echo "valgrind, asan or tsan" >&2
    exit 2
    ;;
esac
echo "$2: nothing found"
