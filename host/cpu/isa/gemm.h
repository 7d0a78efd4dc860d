/* C[mr][nv vectors] = A[mr][depth] B[depth][BLOCK], or alpha C + A B: the register block of both products of attention. A is
 * broadcast, B streams from L1: at 6 x 4 vectors 10 loads feed 24 multiply-adds. An element is summed in the order of depth
 * whatever mr and nv are, so its bits do not depend on how rows and columns are cut. */
#ifndef SPINDLE_HOST_CPU_ISA_GEMM_H
#define SPINDLE_HOST_CPU_ISA_GEMM_H

#include "../kernels.h"
#include "vec.h"

typedef void gemm_function(int32_t depth, const float *a, int64_t a_stride, const float *b, float *c, int64_t c_stride,
                           const float *alpha);

ALWAYS_INLINE void gemm_block(const int mr, const int nv, int32_t depth, const float *a, int64_t a_stride, const float *b,
                              float *c, int64_t c_stride, const float *alpha) {
  vf acc[MAX_ROWS][MAX_VECTORS];
#pragma GCC unroll 8
  for (int i = 0; i < mr; i++)
#pragma GCC unroll 8
    for (int j = 0; j < nv; j++) acc[i][j] = alpha ? load(c + i * c_stride + j * WIDTH) * alpha[i] : splat(0.0f);
  for (int32_t k = 0; k < depth; k++, b += BLOCK) {
    vf bk[MAX_VECTORS];
#pragma GCC unroll 8
    for (int j = 0; j < nv; j++) bk[j] = load(b + j * WIDTH);
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++) {
      vf ai = splat(a[i * a_stride + k]);
#pragma GCC unroll 8
      for (int j = 0; j < nv; j++) acc[i][j] += ai * bk[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < mr; i++)
#pragma GCC unroll 8
    for (int j = 0; j < nv; j++) store(c + i * c_stride + j * WIDTH, acc[i][j]);
}

#define GEMM(mr, nv)                                                                                                        \
  static void gemm_##mr##_##nv(int32_t depth, const float *a, int64_t a_stride, const float *b, float *c, int64_t c_stride, \
                               const float *alpha) {                                                                        \
    gemm_block(mr, nv, depth, a, a_stride, b, c, c_stride, alpha);                                                          \
  }
#define GEMM_ROW(nv) GEMM(1, nv) GEMM(2, nv) GEMM(4, nv) GEMM(6, nv)

GEMM_ROW(1)
GEMM_ROW(2)
#if MAX_VECTORS == 4
GEMM_ROW(3)
GEMM_ROW(4)
#define GEMM_ENTRY(mr) \
  { gemm_##mr##_1, gemm_##mr##_2, gemm_##mr##_3, gemm_##mr##_4 }
#else
#define GEMM_ENTRY(mr) \
  { gemm_##mr##_1, gemm_##mr##_2 }
#endif

static gemm_function *const gemm_table[4][MAX_VECTORS] = {GEMM_ENTRY(1), GEMM_ENTRY(2), GEMM_ENTRY(4), GEMM_ENTRY(6)};

/* The most rows that one block takes of `rows` left: 6, 4, 2 or 1; and its line in the table. */
ALWAYS_INLINE int32_t gemm_rows(int32_t rows, int32_t *line) {
  *line = rows >= 6 ? 3 : rows >= 4 ? 2 : rows >= 2 ? 1 : 0;
  return *line == 3 ? 6 : 1 << *line;
}

#endif
