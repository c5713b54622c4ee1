#!/bin/sh
# Makes CRemask.xcframework for iOS, its simulator and macOS, where Package.swift looks for it. On macOS, with
# Xcode, Rust and CMake:
#     sh bindings/swift/build-xcframework.sh
# FEATURES=metal compiles the GPU backend in.
set -eu
[ "$(uname -s)" = Darwin ] || { echo "build-xcframework.sh: runs on macOS" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
export IPHONEOS_DEPLOYMENT_TARGET=16.0 MACOSX_DEPLOYMENT_TARGET=13.0

build() {
    rustup target add "$1"
    (cd "$root" && cargo build --release -p remask --target "$1" ${FEATURES:+--features "$FEATURES"})
}
for triple in aarch64-apple-ios aarch64-apple-ios-sim x86_64-apple-ios aarch64-apple-darwin x86_64-apple-darwin; do
    build $triple
done

out=$target/xcframework
rm -rf "$out" "$here/CRemask.xcframework"
mkdir -p "$out/headers" "$out/simulator" "$out/macos"
cp "$root/include/remask.h" "$out/headers/"
# In a framework the library needs no `link` line.
printf 'module CRemask [system] {\n  header "remask.h"\n  export *\n}\n' > "$out/headers/module.modulemap"
lipo -create -output "$out/simulator/libremask.a" \
    "$target/aarch64-apple-ios-sim/release/libremask.a" "$target/x86_64-apple-ios/release/libremask.a"
lipo -create -output "$out/macos/libremask.a" \
    "$target/aarch64-apple-darwin/release/libremask.a" "$target/x86_64-apple-darwin/release/libremask.a"
xcodebuild -create-xcframework \
    -library "$target/aarch64-apple-ios/release/libremask.a" -headers "$out/headers" \
    -library "$out/simulator/libremask.a" -headers "$out/headers" \
    -library "$out/macos/libremask.a" -headers "$out/headers" \
    -output "$here/CRemask.xcframework"
