#!/bin/sh
# A release folder with ggml's backends as files, tried out: sh tests/dist-dynamic.sh FOLDER [CARGO_TARGET_FOLDER]
#
# `cargo xtask dist --dynamic --test` runs it. A copy of the folder is put elsewhere. The command and the C
# examples in it run on the model in models/; then with each file for the CPU alone, with the files in another
# folder, and with files that are not as they should be. With REMASK_TEST_BACKEND=FILE.so that backend is put
# in too: it may work or say why not.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
model=$root/models/little-world.gguf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -a "$1" "$work/elsewhere"
here=$work/elsewhere
lib=$here/lib
prompt="Once upon a time Lucy met a"
cd "$work"
unset LD_LIBRARY_PATH REMASK_BACKENDS

fail() {
    echo "tests/dist-dynamic.sh: $*" >&2
    exit 1
}

# Runs the command on the model. What it says goes to the file `said`, the log to `log`.
generate() {
    "$here/bin/remask" generate -vv -m "$model" -p "$prompt" -n 24 --raw --temperature 0 >said 2>log
}

logged() {
    grep -q "$1" log || fail "the log does not say '$1': $(cat log)"
}

for file in "$lib"/*.so*; do
    if ldd "$file" | grep -q "not found"; then
        fail "$file: $(ldd "$file")"
    fi
done
generate || fail "bin/remask: $(cat log)"
cp said expected
grep -q . expected || fail "bin/remask wrote nothing"
logged "libggml-cpu-.*\.so is loaded, the best of"
echo "ok: bin/remask; $(sed -n 's/.*\(libggml-cpu.*\)/\1/p' log | grep "is loaded")"

sh "$here/share/remask/examples/c/build.sh" "$here" "$work/c_shared" >/dev/null
./c_shared generate "$model" "$prompt" >c_said 2>steps || fail "the C example: $(cat steps)"
grep -q "$prompt" c_said || fail "the C example wrote: $(cat c_said)"
echo "ok: C, pkg-config"
cmake -S "$here/share/remask/examples/cpp" -B build-cpp -DCMAKE_PREFIX_PATH="$here" >cmake.log 2>&1 &&
    cmake --build build-cpp --target remask_example >>cmake.log 2>&1 || fail "$(cat cmake.log)"
build-cpp/remask_example generate "$model" "$prompt" >cpp_said 2>steps || fail "the C++ example: $(cat steps)"
cmp -s cpp_said c_said || fail "the C++ example wrote: $(cat cpp_said)"
echo "ok: C++, CMake"

# Each file for the CPU alone: it is used, or it is for another processor and said to be.
mkdir all
mv "$lib"/libggml-cpu*.so all
n_used=0
for file in all/*; do
    name=$(basename "$file")
    cp "$file" "$lib"
    if generate; then
        logged "$name is loaded"
        [ "$(wc -w <said)" -ge 5 ] || fail "$name: $(cat said)"
        n_used=$((n_used + 1))
        score=$(sed -n "s/.*$name has score/score/p" log)
        if cmp -s said expected; then same="the same text"; else same="another text: $(cat said)"; fi
        echo "ok: $name alone, $score, $same"
    else
        logged "$name is for another processor"
        logged "there is no usable libggml-cpu"
        echo "ok: $name alone, for another processor"
    fi
    rm "$lib/$name"
done
[ "$n_used" -gt 0 ] || fail "no file for the CPU was used"

# Elsewhere: not found, named in the environment, named through the C interface.
if generate; then
    fail "without a CPU backend it wrote: $(cat said)"
fi
logged "there is no usable libggml-cpu.*in .*elsewhere/lib"
REMASK_BACKENDS=$work/nowhere:$work/all generate || fail "REMASK_BACKENDS: $(cat log)"
logged "$work/all/libggml-cpu-.* is loaded"
cmp -s said expected || fail "with REMASK_BACKENDS it wrote: $(cat said)"
# shellcheck disable=SC2046
cc $(PKG_CONFIG_PATH=$lib/pkgconfig pkg-config --cflags --libs remask) -o backends "$root/tests/c/backends.c" \
    -L "$lib" -lremask "-Wl,-rpath,$lib"
./backends "$work/all" || fail "tests/c/backends.c"
echo "ok: a folder in the environment, through the C interface"

# Files that are not as they should be are passed over.
mv all/* "$lib"
bad() {
    generate || fail "$1: $(cat log)"
    logged "$2"
    cmp -s said expected || fail "$1: $(cat said)"
    rm "$lib/libggml-other.so"
    echo "ok: $1: $(sed -n 's/.*libggml-other.so is //p' log)"
}
echo "no library" >"$lib/libggml-other.so"
bad "a file that is no library" "libggml-other.so is not used"
echo 'const char remask_ggml_sources[] = "ggml 0.1.0, sources 1-2"; int ggml_backend_init(void) { return 0; }' |
    cc -shared -fPIC -x c -o "$lib/libggml-other.so" -
bad "other sources" "libggml-other.so is not used: it was made from ggml 0.1.0, sources 1-2, this library from ggml"
echo 'int ggml_backend_init(void) { return 0; }' | cc -shared -fPIC -x c -o "$lib/libggml-other.so" -
bad "unknown sources" "libggml-other.so is not used: it does not say from which sources"
# The rest names this library's sources and so is looked into.
sources=$(grep -ao "ggml [0-9.]*, sources [0-9]*-[0-9]*" "$(ls "$lib"/libggml-cpu-*.so | head -n 1)" | head -n 1)
echo "const char remask_ggml_sources[] = \"$sources\"; int ggml_backend_init(void) { return 0; }" >good.c
cc -shared -fPIC -o "$lib/libggml-other.so" good.c
bad "a backend that does not start" "libggml-other.so is not used: ggml refuses it"
echo "int ggml_backend_score(void) { return 0; }" | cat good.c - | cc -shared -fPIC -x c -o "$lib/libggml-other.so" -
bad "another processor" "libggml-other.so is for another processor"
echo 'int driver(void) { return 0; }' | cc -shared -fPIC -Wl,-soname,libdriver.so.1 -x c -o libdriver.so -
echo 'int driver(void); int ggml_backend_init(void) { return driver(); }' |
    cc -shared -fPIC -x c -o "$lib/libggml-other.so" - -L . -ldriver
bad "a driver that is missing" "libggml-other.so is not used: libdriver.so.1: cannot open shared object file"

if [ -n "${REMASK_TEST_BACKEND:-}" ]; then
    name=$(basename "$REMASK_TEST_BACKEND")
    cp "$REMASK_TEST_BACKEND" "$lib"
    generate || fail "$name: $(cat log)"
    logged "$name is "
    echo "ok: $(sed -n "s/.*\($name is .*\)/\1/p" log)"
fi
