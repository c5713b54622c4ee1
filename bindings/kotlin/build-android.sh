#!/bin/sh
# Builds libremask.so for Android and puts it where the AAR takes it from:
#     ANDROID_NDK_HOME=... sh build-android.sh [arm64-v8a] [x86_64]
# Needs the NDK (r27 or newer), CMake, libclang and `rustup target add` of the targets. Then
# `gradle :remask:assembleRelease` makes the AAR with the JNI layer.
#
# libc++ is linked in, so that the AAR needs no libc++_shared.so and clashes with no other's; OpenMP is off, since
# Android's is a library of its own; segments are aligned for pages of 16 KB.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
: "${ANDROID_NDK_HOME:?set it to the folder of the NDK}"
api=24

case $(uname -s) in
    Linux) host=linux-x86_64 ;;
    Darwin) host=darwin-x86_64 ;;
    *) echo "build-android.sh: runs on Linux and macOS" >&2; exit 1 ;;
esac
tools=$ANDROID_NDK_HOME/toolchains/llvm/prebuilt/$host/bin
[ -x "$tools/clang" ] || { echo "build-android.sh: there is no $tools/clang" >&2; exit 1; }

[ $# -gt 0 ] || set -- arm64-v8a x86_64
for abi in "$@"; do
    case $abi in
        arm64-v8a) target=aarch64-linux-android cpu= ;;
        # Every 64-bit x86 Android has SSE4.2; the emulator shows no more for certain.
        x86_64) target=x86_64-linux-android cpu="-C target-cpu=x86-64-v2" ;;
        *) echo "build-android.sh: $abi is not arm64-v8a or x86_64" >&2; exit 1 ;;
    esac
    upper=$(echo $target | tr a-z- A-Z_)
    lower=$(echo $target | tr - _)
    cc=$tools/$target$api-clang
    (
        cd "$root"
        export "CC_$lower=$cc" "CXX_$lower=$cc++" "AR_$lower=$tools/llvm-ar"
        export "CARGO_TARGET_${upper}_LINKER=$cc"
        # These replace the flags of .cargo/config.toml, which are for the host.
        export "CARGO_TARGET_${upper}_RUSTFLAGS=$cpu -C link-arg=-Wl,-z,max-page-size=16384"
        export ANDROID_NDK="$ANDROID_NDK_HOME" ANDROID_NDK_ROOT="$ANDROID_NDK_HOME"
        export ANDROID_ABI=$abi ANDROID_PLATFORM=android-$api
        export CXXSTDLIB_$lower=c++_static
        export GGML_OPENMP=OFF GGML_NATIVE=OFF
        cargo build --release -p remask --target $target --features ggml-sys/static-stdcxx
    )
    out=$here/remask/src/main/jniLibs/$abi
    mkdir -p "$out"
    "$tools/llvm-strip" --strip-unneeded -o "$out/libremask.so" \
        "${CARGO_TARGET_DIR:-$root/target}/$target/release/libremask.so"
    # What must hold of every library in the AAR.
    "$tools/llvm-readelf" -lW "$out/libremask.so" | awk '$1 == "LOAD" && $NF !~ /^0x(4000|8000|10000)$/ { bad = 1 }
        END { if (bad) { print "build-android.sh: a segment is not aligned to 16 KB" > "/dev/stderr"; exit 1 } }'
    "$tools/llvm-readelf" -lW "$out/libremask.so" | grep -q LOAD
    if "$tools/llvm-readelf" -dW "$out/libremask.so" | grep -E 'libc\+\+_shared|libomp'; then
        echo "build-android.sh: libremask.so needs a library that Android has not" >&2
        exit 1
    fi
    ls -l "$out/libremask.so"
done
