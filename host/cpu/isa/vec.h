/* Vectors of the instruction set this file is compiled for, in the vector extension of gcc and clang. */
#ifndef SPINDLE_HOST_CPU_ISA_VEC_H
#define SPINDLE_HOST_CPU_ISA_VEC_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define WIDTH       16
#define MAX_VECTORS 4 /* of a register block: 6 rows x 4 vectors leave 8 of 32 registers for operands */
#elif defined(__AVX2__)
#define WIDTH       8
#define MAX_VECTORS 2 /* 12 of 16 registers */
#else
#define WIDTH       4
#define MAX_VECTORS 2
#endif
#define BLOCK    (WIDTH * MAX_VECTORS) /* columns of a packed block in use */
#define MAX_ROWS 6

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(WIDTH * 4)));
typedef int32_t vi __attribute__((vector_size(WIDTH * 4)));
typedef uint32_t vu __attribute__((vector_size(WIDTH * 4)));
typedef float vf_unaligned __attribute__((vector_size(WIDTH * 4), aligned(4), may_alias));

ALWAYS_INLINE vf load(const float *p) { return *(const vf_unaligned *)p; }
ALWAYS_INLINE void store(float *p, vf x) { *(vf_unaligned *)p = x; }
ALWAYS_INLINE vf splat(float x) { return x - (vf){0}; }
ALWAYS_INLINE vu splat_unsigned(uint32_t x) { return x - (vu){0}; }
ALWAYS_INLINE vf blend(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }
ALWAYS_INLINE vi iota(void) {
  vi x;
  for (int32_t i = 0; i < WIDTH; i++) x[i] = i;
  return x;
}

/* b where a is NaN. */
ALWAYS_INLINE vf vec_max(vf a, vf b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#elif defined(__SSE2__)
  return _mm_max_ps(a, b);
#else
  return blend(a > b, a, b);
#endif
}

/* 2^x to 1.2e-7 relative: the nearest integer and a minimax polynomial of degree 5 on +-1/2. 0 below -125, so that no subnormal
 * appears; NaN stays. */
ALWAYS_INLINE vf exp2_vec(vf x) {
  const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, left in the low bits */
  vf t = x + magic;
  vf f = x - (t - magic);
  vf p = splat(1.32764718e-3f);
  p = p * f + 9.67554133e-3f;
  p = p * f + 5.55071327e-2f;
  p = p * f + 2.40221197e-1f;
  p = p * f + 6.93146967e-1f;
  p = p * f + 1.00000007f;
  vf y = (vf)((vu)p + ((vu)t << 23)); /* unsigned: for x far below it overflows, and is not taken */
  return blend(x < -125.0f, splat(0.0f), y);
}

/* ZIP: the first (last) halves of a and b, alternating. EVEN, ODD: every other lane of a, then of b. */
#if WIDTH == 16
#define ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define EVEN(a, b)     __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD(a, b)      __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#elif WIDTH == 8
#define ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define EVEN(a, b)     __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define ODD(a, b)      __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#else
#define ZIP_LOW(a, b)  __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define EVEN(a, b)     __builtin_shufflevector(a, b, 0, 2, 4, 6)
#define ODD(a, b)      __builtin_shufflevector(a, b, 1, 3, 5, 7)
#endif

/* Halves onto halves, log2(WIDTH) times: every lane ends up with the whole. */
ALWAYS_INLINE float horizontal_max(vf x) {
#pragma GCC unroll 4
  for (int width = WIDTH; width > 1; width /= 2) x = vec_max(ZIP_LOW(x, x), ZIP_HIGH(x, x));
  return x[0];
}

ALWAYS_INLINE float horizontal_sum(vf x) {
#pragma GCC unroll 4
  for (int width = WIDTH; width > 1; width /= 2) x = ZIP_LOW(x, x) + ZIP_HIGH(x, x);
  return x[0];
}

#endif
