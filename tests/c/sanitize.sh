#!/bin/sh
# The C tests under valgrind, AddressSanitizer with UBSan, and ThreadSanitizer. Not part of the normal test
# run: the sanitizers build ggml again, some minutes each.
#
#   sh tests/c/sanitize.sh MODEL valgrind|asan|tsan
set -eu
cd "$(dirname "$0")/../.."
model=$1
target=x86_64-unknown-linux-gnu
out=${CARGO_TARGET_DIR:-target}/sanitize-$2
# CLANG=clang-14 where it has no other name.
clang=${CLANG:-clang}
clangxx=$(echo "$clang" | sed 's/clang/clang++/')

compile() { # compiler, flags, folder of the library
    for name in generate args threads races; do
        # shellcheck disable=SC2086
        $1 -std=c11 -g -O1 $2 -Iinclude "tests/c/$name.c" -o "$out/$name" \
            -L"$3" -Wl,-rpath,"$3" -lremask -lpthread -lm -lstdc++
    done
}

run() { # what to run them with
    # shellcheck disable=SC2086
    $1 "$out/generate" "$model" > "$out/tokens"
    # shellcheck disable=SC2086
    $1 "$out/args" "$model"
    # shellcheck disable=SC2086
    $1 "$out/threads" "$model" 4 2
    # shellcheck disable=SC2086
    $1 "$out/races" "$model" 1
}

mkdir -p "$out"
unset LD_LIBRARY_PATH
case $2 in
valgrind)
    cargo build --package remask
    compile cc "" "$(cd "${CARGO_TARGET_DIR:-target}/debug" && pwd)"
    run "valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect"
    ;;
asan)
    CC=$clang CXX=$clangxx CFLAGS="-fsanitize=address,undefined -fno-omit-frame-pointer" \
        CXXFLAGS="-fsanitize=address,undefined -fno-omit-frame-pointer" \
        RUSTFLAGS="-C target-cpu=x86-64-v3 -Clinker=$clang -Clink-arg=-fsanitize=address,undefined" \
        CARGO_TARGET_DIR="$out" cargo build --package remask --target $target
    # The library is C++ too, and so is what UBSan needs.
    compile "$clang" "-fsanitize=address,undefined -fsanitize-link-c++-runtime" "$(cd "$out/$target/debug" && pwd)"
    run ""
    ;;
tsan)
    CC=$clang CXX=$clangxx CFLAGS=-fsanitize=thread CXXFLAGS=-fsanitize=thread RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="-C target-cpu=x86-64-v3 -Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
        CARGO_TARGET_DIR="$out" cargo build --package remask --target $target
    # Rust calls functions of its own, newer runtime: the programs are linked with that one.
    runtime=$(rustc --print sysroot)/lib/rustlib/$target/lib/librustc-stable_rt.tsan.a
    library=$(cd "$out/$target/debug" && pwd)
    for name in generate args threads races; do
        $clang -std=c11 -g -O1 -fsanitize=thread -Iinclude -c "tests/c/$name.c" -o "$out/$name.o"
        $clangxx "$out/$name.o" -o "$out/$name" -rdynamic -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive \
            -L"$library" -Wl,-rpath,"$library" -lremask -lpthread -lm -ldl
    done
    # ThreadSanitizer wants memory where it expects it.
    TSAN_OPTIONS="suppressions=$PWD/tests/c/tsan.supp" run "setarch -R"
    ;;
*)
    echo "valgrind, asan or tsan" >&2
    exit 2
    ;;
esac
echo "$2: nothing found"
