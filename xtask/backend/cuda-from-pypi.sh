#!/bin/sh
# A CUDA toolkit out of Python wheels, for a machine that has none: sh cuda-from-pypi.sh FOLDER
#
# Enough of one to compile the backend file: nvcc, its headers, the runtime and cuBLAS, about 900 MB. It
# needs pip and a C compiler. Afterwards FOLDER is what CUDA_HOME is to name. There is no driver in wheels:
# in place of libcuda.so, which the backend is linked with, stands a library of that name with functions that
# do nothing, as toolkits have one too; at run time the driver's own is loaded.
set -eu
[ $# = 1 ] || {
    echo "usage: sh cuda-from-pypi.sh FOLDER" >&2
    exit 2
}
mkdir -p "$1"
home=$(cd "$1" && pwd)

# One release, 13.0, the first whose wheels hold nvcc: files that it makes run on drivers from 580 on.
wheels="nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.0.2.14"

if [ ! -x "$home/bin/nvcc" ]; then
    unpacked=$home/unpacked
    rm -rf "$unpacked"
    # shellcheck disable=SC2086
    python3 -m pip install --quiet --no-deps --only-binary :all: --target "$unpacked" $wheels
    cp -a "$unpacked/nvidia/cu13/." "$home"
    rm -rf "$unpacked"
    # What wheels leave out: names without a version, which linkers look for, and the folder that CMake does.
    for name in cudart cublas cublasLt; do
        ln -sf "lib$name.so.13" "$home/lib/lib$name.so"
    done
    ln -sfn lib "$home/lib64"
    mkdir -p "$home/lib/stubs"
    # All that the driver has, by its header: linkers leave out a library that gives them nothing.
    "${CC:-cc}" -E "$home/include/cuda.h" | grep -o 'cu[A-Z][A-Za-z0-9_]*(' | sort -u |
        sed 's/(/(void) { return 1; }/; s/^/int /' |
        "${CC:-cc}" -shared -fPIC -Wl,-soname,libcuda.so.1 -x c -o "$home/lib/stubs/libcuda.so" -
    chmod +x "$home"/bin/* "$home"/nvvm/bin/*
fi
"$home/bin/nvcc" --version | tail -n 2
echo "CUDA_HOME=$home"
