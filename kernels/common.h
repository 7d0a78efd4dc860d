/* What shared C (this folder's .h files, compiled by the host's C compiler, by nvcc and by the emulator) may use. */
#ifndef SPINDLE_KERNELS_COMMON_H
#define SPINDLE_KERNELS_COMMON_H

#include <spindle/spindle.h>

#ifdef __CUDACC__
#define SPINDLE__SHARED static inline __host__ __device__
#else
#define SPINDLE__SHARED static inline
#endif

#define SPINDLE__MAX_HEAD_DIM 512
#define SPINDLE__MAX_PAIRS    (SPINDLE__MAX_HEAD_DIM / 2)
#define SPINDLE__MAX_INDEX    ((int64_t)1 << 40) /* indices are below */

SPINDLE__SHARED int64_t spindle__min(int64_t a, int64_t b) { return a < b ? a : b; }
SPINDLE__SHARED int64_t spindle__max(int64_t a, int64_t b) { return a > b ? a : b; }
/* Quotient rounded down, b > 0. */
SPINDLE__SHARED int64_t spindle__floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
SPINDLE__SHARED int64_t spindle__ceil_div(int64_t a, int64_t b) { return -spindle__floor_div(-a, b); }

#endif
