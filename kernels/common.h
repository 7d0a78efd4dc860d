/* What shared C (this folder's .h files, compiled by the host's C compiler, by nvcc and by the emulator) may use. */
#ifndef SPINDLE_KERNELS_COMMON_H
#define SPINDLE_KERNELS_COMMON_H

#include <math.h>

#include <spindle/spindle.h>

/* CALLED: once in a kernel, however often it is used. What it would take inlined is most of a kernel's code otherwise; not where
 * accumulators are in registers, which a call would send through memory. */
#if defined(__CUDACC__) && defined(SPINDLE__NO_CALLS)
/* A kernel that moves registers between its warps (setmaxnreg) cannot call what calls: ptxas finds no registers (C7600). */
#define SPINDLE__SHARED        static __forceinline__ __host__ __device__
#define SPINDLE__SHARED_CALLED SPINDLE__SHARED
#elif defined(__CUDACC__)
#define SPINDLE__SHARED        static inline __host__ __device__
#define SPINDLE__SHARED_CALLED static inline __noinline__ __host__ __device__
#else
#define SPINDLE__SHARED        static inline
#define SPINDLE__SHARED_CALLED static inline
#endif

#define SPINDLE__MAX_HEAD_DIM 512
#define SPINDLE__MAX_PAIRS    (SPINDLE__MAX_HEAD_DIM / 2)
#define SPINDLE__MAX_INDEX    ((int64_t)1 << 40) /* indices are below */

SPINDLE__SHARED int64_t spindle__min(int64_t a, int64_t b) { return a < b ? a : b; }
SPINDLE__SHARED int64_t spindle__max(int64_t a, int64_t b) { return a > b ? a : b; }
/* Quotient rounded down, b > 0. */
SPINDLE__SHARED int64_t spindle__floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
SPINDLE__SHARED int64_t spindle__ceil_div(int64_t a, int64_t b) { return -spindle__floor_div(-a, b); }

/* a b + c in float. On a GPU one operation wherever it stands: left to the compiler, a sum of products might be contracted in one
 * kernel as it is not in another, and a rotated key's bits would depend on who rotates it. */
SPINDLE__SHARED float spindle__fma(float a, float b, float c) {
#ifdef __CUDACC__
  return fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

/* x / d and x % d for x >= 0, d > 0. On a GPU 64 bits are divided by a subroutine, and what is in registers around a call goes
 * through memory: there 32 bits if they do, else bit by bit. */
SPINDLE__SHARED int64_t spindle__divide(int64_t x, int64_t d, int64_t *rest) {
#if defined(__CUDACC__) || defined(SPINDLE_EMULATED)
  uint64_t quotient = 0, left = 0;
  if (((uint64_t)x | (uint64_t)d) <= UINT32_MAX) {
    quotient = (uint32_t)x / (uint32_t)d;
    left = (uint32_t)x - (uint32_t)quotient * (uint32_t)d;
  } else {
#ifdef __CUDA_ARCH__
#pragma unroll 1 /* a thousand instructions otherwise, at every division */
#endif
    for (int bit = 62; bit >= 0; bit--) {
      left = left << 1 | ((uint64_t)x >> bit & 1);
      quotient <<= 1;
      if (left >= (uint64_t)d) {
        left -= (uint64_t)d;
        quotient++;
      }
    }
  }
  *rest = (int64_t)left;
  return (int64_t)quotient;
#else
  *rest = x % d;
  return x / d;
#endif
}

#endif
