#!/bin/sh
# A release folder, tried out: sh tests/dist.sh FOLDER [CARGO_TARGET_FOLDER]
#
# `cargo xtask dist --test` runs it. A copy of the folder is put elsewhere; the examples in it are built by
# pkg-config and by CMake, with the shared and with the static library, and run on the model in models/. All
# must write the same text. With cargo's target folder, a C++ program with a second, real ggml too.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
model=$root/models/little-world.gguf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -a "$1" "$work/elsewhere"
here=$work/elsewhere
examples=$here/share/remask/examples
prompt="Once upon a time Lucy met a"
cd "$work"
unset LD_LIBRARY_PATH

fail() {
    echo "tests/dist.sh: $*" >&2
    exit 1
}

# Runs an example and compares what it writes with what the first one wrote.
try() {
    name=$1
    shift
    "$@" generate "$model" "$prompt" >said 2>steps || fail "$name: $(cat steps)"
    [ -f expected ] || cp said expected
    cmp -s said expected || fail "$name wrote: $(cat said)"
    echo "ok: $name"
}

[ "$("$here/bin/remask" --version | cut -d' ' -f1)" = remask ] || fail "bin/remask does not run"

sh "$examples/c/build.sh" "$here" "$work/c_shared" >/dev/null
try "C, pkg-config, shared" ./c_shared
grep -q "$prompt" expected || fail "the example wrote: $(cat expected)"

PKG_CONFIG_PATH=$here/lib/pkgconfig
export PKG_CONFIG_PATH
# shellcheck disable=SC2046
cc $(pkg-config --cflags remask-static) -o c_static "$examples/c/remask_example.c" $(pkg-config --libs remask-static)
try "C, pkg-config, static" ./c_static
# shellcheck disable=SC2046
c++ -std=c++17 $(pkg-config --cflags remask) -o cpp_shared "$examples/cpp/remask_example.cpp" $(pkg-config --libs remask) \
    "-Wl,-rpath,$here/lib"
try "C++, pkg-config, shared" ./cpp_shared

for language in c cpp; do
    cmake -S "$examples/$language" -B "build-$language" -DCMAKE_PREFIX_PATH="$here" >cmake.log 2>&1 &&
        cmake --build "build-$language" >>cmake.log 2>&1 || fail "$(cat cmake.log)"
    try "$language, CMake, shared" "build-$language/remask_example"
    try "$language, CMake, static" "build-$language/remask_example_static"
done
cmake -S "$root/bindings/cpp" -B build-smallest -DCMAKE_PREFIX_PATH="$here" >cmake.log 2>&1 &&
    cmake --build build-smallest >>cmake.log 2>&1 || fail "$(cat cmake.log)"
build-smallest/smallest "$model" "$prompt" >said && grep -q "$prompt" said || fail "the smallest program: $(cat said)"
echo "ok: bindings/cpp, CMake"
sed 's/find_package(remask 0.1/find_package(remask 99/' "$root/bindings/cpp/CMakeLists.txt" >CMakeLists.txt
if cmake -S . -B build-newer -DCMAKE_PREFIX_PATH="$here" >cmake.log 2>&1; then
    fail "CMake takes this version for 99"
fi
echo "ok: CMake refuses another version"

ggml=$(ls -d "${2:-nowhere}"/build/llama-cpp-sys-2-*/out 2>/dev/null | head -n 1)
if [ -n "$ggml" ]; then
    lib=$ggml/lib
    c++ -std=c++17 -DREMASK_STATIC -I "$here/include" -I "$ggml/include" -I "$root/tests/cpp" -o two_ggml \
        "$root/tests/cpp/two_ggml.cpp" "$lib/libggml-base.a" "$here/lib/libremask.a" "$lib/libggml.a" \
        "$lib/libggml-cpu.a" "$lib/libggml-base.a" -lpthread -ldl -lm
    ./two_ggml "$model" >said || fail "with a second ggml: $(cat said)"
    echo "ok: a second ggml in one program"
fi
