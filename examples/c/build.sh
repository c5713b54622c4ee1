#!/bin/sh
# Builds the example with a release folder (`cargo xtask dist`) by pkg-config:
#   sh build.sh FOLDER [OUTPUT]
# The program finds the library where it is now; leave the -rpath out where it is installed for all.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
remask=$(cd "${1:?the folder of remask, please}" && pwd)
output=${2:-remask_example}
export PKG_CONFIG_PATH="$remask/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
# shellcheck disable=SC2046
${CC:-cc} -O2 -o "$output" "$here/remask_example.c" $(pkg-config --cflags --libs remask) "-Wl,-rpath,$remask/lib"
echo "$output"
