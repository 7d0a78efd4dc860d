/* The machine as kernels see it, and the only header of this folder that they include.
 *
 * Everything in kernels/ that is not plain C++ goes through spindle::prim: no asm, no intrinsic and no threadIdx elsewhere. So
 * the same sources run on a GPU and, compiled with SPINDLE_EMULATED, on the CPU (docs/emulator.md), where each of these functions
 * checks how it is used. A wrapper is one instruction, named after it; its comment has the semantics and names the
 * instruction, each file the chapter of the PTX ISA that has a section of that title (numbers change between versions). Kernels
 * also follow docs/emulator.md, "Rules".
 *
 *   thread.cuh    indices, shared memory           memory.cuh    loads, stores, atomics, fences
 *   warp.cuh      shuffles, votes, sync_warp       copy.cuh      cp.async
 *   barrier.cuh   block and named barriers         matrix.cuh    ldmatrix, mma
 *   math.cuh      approximations                   convert.cuh   bf16, f16, e4m3
 *   launch.cuh    (host) SPINDLE__LAUNCH
 *
 * and for sm_90a
 *
 *   mbarrier.cuh  barriers in shared memory        tma.cuh         copies of boxes, fence_proxy_async
 *   wgmma.cuh     products of a warpgroup          tensor_map.cuh  swizzles; (host) tensor maps
 *   warpgroup.cuh setmaxnreg */
#ifndef SPINDLE_KERNELS_PRIM_PRIM_CUH
#define SPINDLE_KERNELS_PRIM_PRIM_CUH

#include <cuda.h>
#include <cuda_runtime.h>
#include <stdint.h>

namespace spindle {
/* Storage types; the bits are the upper half of a float, IEEE half, and OCP FP8 E4M3. */
struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};
struct e4m3 {
  uint8_t bits;
};
}  // namespace spindle

#include "tensor_map.cuh"

#ifdef SPINDLE_EMULATED
#include "emulator/prim.h"
#else
/* A function of device code. Kernels themselves are plain __global__. */
#define SPINDLE__DEVICE        __device__ __forceinline__
/* One that is called, for what is done between tiles: inlined it would be there several times, and in the way of the loop's
 * registers. */
#ifdef SPINDLE__NO_CALLS /* common.h */
#define SPINDLE__DEVICE_CALLED SPINDLE__DEVICE
#else
#define SPINDLE__DEVICE_CALLED static inline __device__ __noinline__
#endif
/* Before a loop whose trip count is a constant and whose body indexes register arrays. */
#define SPINDLE__UNROLL        _Pragma("unroll")
/* Before one that the compiler would unroll to no use. */
#define SPINDLE__NO_UNROLL     _Pragma("unroll 1")

#include "thread.cuh"

#include "barrier.cuh"
#include "convert.cuh"
#include "copy.cuh"
#include "launch.cuh"
#include "math.cuh"
#include "matrix.cuh"
#include "mbarrier.cuh"
#include "memory.cuh"
#include "tma.cuh"
#include "warp.cuh"
#include "warpgroup.cuh"
#include "wgmma.cuh"
#endif

#endif
