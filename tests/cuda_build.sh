#!/bin/sh
# cuda_build.sh SOURCE [ARCHITECTURES]: does the library compile and link with its cuda backend, as users build it? Of its kernels
# those of one head dim without softcap and bias, by default for Hopper; no further than PTX, for what ptxas makes of them is
# tests/budgets' to say. No GPU is needed. Exit status 77: no nvcc.
set -eu
source=$(cd "$1" && pwd)
PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null || { echo "no nvcc: skipped"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/tree"
cp -R "$source/CMakeLists.txt" "$source/include" "$source/kernels" "$source/host" "$source/bench" "$work/tree"
sed -i '/kernel, T, [0-9]/{/T, 64[,)]/!d}; s/.*, GENERAL) *$//' "$work/tree/kernels/instances.def"
sed -i 's/code=sm_/code=compute_/' "$work/tree/host/cuda/cuda.cmake"
sed -i "s/level -O3/level -O0/" "$work/tree/host/cpu/CMakeLists.txt" # only linked
cmake -S "$work/tree" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DSPINDLE_WERROR=ON -DSPINDLE_BUILD_TESTS=OFF \
  -DSPINDLE_BUILD_TOOL=ON -DSPINDLE_CUDA=ON "-DSPINDLE_CUDA_ARCHITECTURES=${2:-90a}" >"$work/log" 2>&1 &&
  cmake --build "$work/build" >>"$work/log" 2>&1 || { tail -n 40 "$work/log"; exit 1; }
grep -q 6decode "$work"/build/lib/libspindle.so.*.* || { echo "no kernels in the library"; exit 1; }
"$work/build/bin/spindle" info
