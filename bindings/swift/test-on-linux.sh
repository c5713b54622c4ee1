#!/bin/sh
# Builds and tests the package with Debian 13's Swift (6.0), in a Debian 13 of its own below FOLDER, which is made
# at the first run (about 3 GB; needs root and debootstrap) and kept:
#     cargo build -p remask && sh bindings/swift/test-on-linux.sh FOLDER
# A library built on Debian 12 or 13 serves.
set -eu
[ $# -eq 1 ] || { echo "usage: test-on-linux.sh FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
library=${REMASK_LIBRARY:-${CARGO_TARGET_DIR:-$root/target}/debug/libremask.so}
[ -f "$library" ] || { echo "test-on-linux.sh: there is no $library; cargo build -p remask makes it" >&2; exit 1; }

mkdir -p "$1"
system=$(cd "$1" && pwd)
if [ ! -e "$system/etc/debian_version" ]; then
    debootstrap --variant=minbase --include=ca-certificates trixie "$system"
fi
if [ ! -x "$system/usr/bin/swift" ]; then
    chroot "$system" sh -c 'apt-get update && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends swiftlang libc6-dev'
fi

# The same layout as here, so that the module map finds the header.
src=$system/src/remask
rm -rf "$src"
mkdir -p "$src/bindings" "$src/lib"
cp -r "$root/include" "$src/"
cp -r "$here" "$src/bindings/"
cp -L "$library" "$src/lib/"
cp "$root/models/little-world.gguf" "$src/"

mkdir -p "$system/proc"
mounted=
if [ ! -e "$system/proc/self" ]; then
    mount -t proc proc "$system/proc"
    mounted=1
fi
trap '[ -z "$mounted" ] || umount "$system/proc"' EXIT

# What the tests of the other bindings get too: tests/jni.rs compares it with the library's own.
tokens='330 322 257 323 391 327 257 396 368 287 260 459 13 288 372 277 419 13 387 325'
flags='--scratch-path /src/build -Xlinker -L/src/remask/lib -Xlinker -rpath -Xlinker /src/remask/lib'
nice chroot "$system" sh -ec "cd /src/remask/bindings/swift
    swift build $flags
    REMASK_MODEL=/src/remask/little-world.gguf REMASK_TOKENS='$tokens' swift test $flags
    swiftc -parse Examples/*.swift
    /src/build/debug/remask-example /src/remask/little-world.gguf"
