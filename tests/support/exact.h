/* Rotations in 113-bit arithmetic: cos(position * w) in double is itself off by 3.5e-5 at position 2^40. */
#ifndef SPINDLE_TESTS_SUPPORT_EXACT_H
#define SPINDLE_TESTS_SUPPORT_EXACT_H

#include <stdint.h>

#include <spindle/spindle.h>

/* One row of head_dim_qk channels. Pair t turns by position / divisor times w[t], its channels grow by factor * growth[t]; growth
 * NULL: 1. The others are copied. */
void test_exact_rotate(const spindle_shape *shape, const double *w, int64_t position, double divisor, double factor,
                       const double *growth, const float *x, double *out);

#endif
