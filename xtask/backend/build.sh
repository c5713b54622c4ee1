#!/bin/sh
# One backend of ggml as a file that a Remask core loads: sh build.sh cuda|vulkan [options]
#
# (`stamp` in place of a backend makes only the object that says the sources, for cargo's build.)
#
#   --ggml FOLDER   the sources: those of the core, as `cargo xtask backend` gives them (default: ggml
#                   beside this script)
#   --out FOLDER    where libggml-cuda.so goes (default: the current folder)
#   --work FOLDER   where it is compiled; kept, so that a second run goes on (default: build-BACKEND)
#   --arch LIST     CUDA only: compute capabilities, such as 90 or "80;90" (default: ggml's choice)
#   --jobs N        compilers at the same time (default: one a core)
#   -DNAME=VALUE    handed on to CMake, such as -DGGML_CUDA_FA=OFF
#
# It needs CMake, a C++ compiler and, for CUDA, nvcc in PATH or under CUDA_HOME (cuda-from-pypi.sh makes one);
# for Vulkan what docs/devices.md names. No Rust. Put the file beside libremask.so.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

backend=${1:-}
case $backend in
cuda | vulkan | stamp) shift ;;
*) fail "which backend? sh build.sh cuda|vulkan [--arch 90] [--out FOLDER]" ;;
esac
ggml=$here/ggml out=. work=build-$backend arch='' jobs=$(getconf _NPROCESSORS_ONLN) more=''
while [ $# -gt 0 ]; do
    case $1 in
    -D*) more="$more $1" && shift && continue ;;
    --ggml | --out | --work | --arch | --jobs) [ $# -ge 2 ] || fail "$1 needs a value" ;;
    *) fail "unknown option $1" ;;
    esac
    case $1 in
    --ggml) ggml=$2 ;;
    --out) out=$2 ;;
    --work) work=$2 ;;
    --arch) arch=$2 ;;
    --jobs) jobs=$2 ;;
    esac
    shift 2
done
[ -f "$ggml/src/ggml-backend-impl.h" ] || fail "$ggml holds no sources of ggml"
ggml=$(cd "$ggml" && pwd)
mkdir -p "$out" "$work"
work=$(cd "$work" && pwd)

# The file says which sources it was made from, and the core takes it only if they are its own: see
# src/ggml/modules.rs, and build.rs, which counts the core's.
version=$(sed -n 's/^set(GGML_VERSION_[MP][A-Z]* \([0-9]*\)).*/\1/p' "$ggml/CMakeLists.txt" | paste -sd . -)
sum=$(cd "$ggml" && LC_ALL=C sh -c 'cat include/*.h src/*.h src/*.c src/*.cpp' | cksum | tr ' ' -)
stamp="ggml $version, sources $sum"
echo "const char remask_ggml_sources[] = \"$stamp\";" >"$work/stamp.c"
"${CC:-cc}" -c -fPIC -o "$work/stamp.o" "$work/stamp.c"
[ "$backend" != stamp ] || exit 0

command -v cmake >/dev/null || fail "cmake is not installed"
set -- "-DGGML_BACKEND_DL=ON" "-DBUILD_SHARED_LIBS=ON" "-DGGML_CPU=OFF" "-DGGML_NATIVE=OFF" "-DGGML_OPENMP=OFF" \
    "-DGGML_BUILD_TESTS=OFF" "-DGGML_BUILD_EXAMPLES=OFF" "-DCMAKE_BUILD_TYPE=Release"
# What it is linked with (cudart, cuBLAS) is looked for beside it, then in the toolkit.
# shellcheck disable=SC2016
rpath='$ORIGIN'
case $backend in
cuda)
    nvcc=${CUDACXX:-${CUDA_HOME:+$CUDA_HOME/bin/nvcc}}
    nvcc=${nvcc:-$(command -v nvcc || true)}
    [ -x "$nvcc" ] || fail "there is no nvcc in PATH; set CUDA_HOME, or make a toolkit with cuda-from-pypi.sh"
    toolkit=$(cd "$(dirname "$nvcc")/.." && pwd)
    rpath="$rpath;$toolkit/lib64"
    set -- "$@" -DGGML_CUDA=ON -DGGML_CUDA_GRAPHS=ON -DGGML_CUDA_NCCL=OFF "-DCMAKE_CUDA_COMPILER=$nvcc" \
        "-DCUDAToolkit_ROOT=$toolkit"
    [ -z "$arch" ] || set -- "$@" "-DCMAKE_CUDA_ARCHITECTURES=$arch"
    ;;
vulkan) set -- "$@" -DGGML_VULKAN=ON ;;
esac

# shellcheck disable=SC2086
cmake -S "$here" -B "$work" "-DREMASK_GGML=$ggml" "$@" "-DCMAKE_MODULE_LINKER_FLAGS=$work/stamp.o" \
    -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON "-DCMAKE_INSTALL_RPATH=$rpath" $more >"$work/configure.log" 2>&1 ||
    fail "$(cat "$work/configure.log")"
cmake --build "$work" --target "ggml-$backend" --parallel "$jobs"
built=$(find "$work" -name "libggml-$backend.so" | head -n 1)
[ -n "$built" ] || fail "no libggml-$backend.so came out under $work"
cp -L "$built" "$out/libggml-$backend.so"
echo "$out/libggml-$backend.so: $stamp"
