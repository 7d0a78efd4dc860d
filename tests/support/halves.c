#include "halves.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "dtypes.h"

/* Inputs are independent with mean 0, so the sum of n products is off by C roundings of the product of norms (Higham and Mary
 * 2020), C = 4 standard deviations.
 *
 * A score's error has two parts. Rotated q and k are rounded to the tensors' type, of roundoff r: D products, both factors off
 * by 0.42 r root mean square, come to 0.6 r |q| |k| / sqrt(D); cos and sin are good to 1e-6. The rest is float: u = 2^-24 a
 * product and 16 u of what joins the score. A weight's error is that of its score and a rounding to the type, O's that of the
 * weights times the values' deviation from their mean, at most about 2 where few keys are seen. Errors of different weights are
 * independent, so the root mean square of O's is that of one score or less: C and 2 do not apply to it. */
#define U       0x1p-24
#define C       4.0
#define COS_SIN 1e-6

static double largest_norm(const float *x, int64_t vectors, int32_t dim) {
  double largest = 0;
  for (int64_t r = 0; r < vectors; r++, x += dim) {
    double sum = 0;
    for (int32_t c = 0; c < dim; c++) sum += (double)x[c] * x[c];
    largest = fmax(largest, sum);
  }
  return sqrt(largest);
}

static double largest_weight(const float *x, int32_t heads) {
  double largest = 0;
  for (int32_t h = 0; x && h < heads; h++) largest = fmax(largest, fabs((double)x[h]));
  return largest;
}

static double row_scale_bound(const test_setup *setup, const test_request *q) {
  const spindle_position *p = &q->position;
  const spindle_attention_args *a = &setup->args;
  double last = log(2.0 + (double)llabs(q->q_index) + q->q_len + (double)q->n);
  switch (p->row_scale) {
    case SPINDLE_ROWSCALE_NONE: return 1;
    case SPINDLE_ROWSCALE_LOGN: return fmax(1, last / log(p->row_scale_length));
    case SPINDLE_ROWSCALE_SSMAX:
      return largest_weight(a->row_scale_s, setup->shape.num_q_heads) * last +
             largest_weight(a->row_scale_b, setup->shape.num_q_heads);
    default: return 1 + fabs(p->row_scale_beta) * last;
  }
}

test_bound test_halves_bound(const test_setup *setup, const test_request *q) {
  spindle_shape s = test_shape(setup->shape);
  spindle_position position = q->position;
  double a, factor, r = test_unit_roundoff(s.q_dtype), dims = sqrt(s.head_dim_qk);
  position.struct_size = sizeof position;
  test_ok(spindle_position_resolve(&position, &s, q->n ? q->n : llabs(q->q_index) + q->q_len, NULL, &a, &factor));
  double scale = setup->args.scale > 0 ? setup->args.scale : 1 / dims;
  double norms = largest_norm(q->q, (int64_t)q->q_len * s.num_q_heads, s.head_dim_qk) *
                 largest_norm(q->k, (int64_t)q->kv_len * s.num_kv_heads, s.head_dim_qk);
  double largest = row_scale_bound(setup, q) * scale * fabs(factor) * fmax(1, a * a) * norms;
  double score = C * (2 * COS_SIN + 0.6 * r) * largest / dims + C * U * largest + 16 * U * fmin(largest, 6 * largest / dims);
  if (s.bias) score += 64 * U * (6 * largest / dims + 20); /* keys whose bias lies 20 below weigh nothing */
  double sum = (C * sqrt(q->kv_len) + 4) * U;
  return (test_bound){2 * (score + sum + r), score + sum};
}

static void check_lse(const char *what, const test_request *got, const test_request *want, int32_t heads, double bound) {
  for (int64_t x = 0; x < (int64_t)got->q_len * heads; x++) {
    double off = fabs((double)got->lse[x] - want->lse[x]), allowed = bound + 4 * U * fabs((double)want->lse[x]);
    cr_assert(got->lse[x] == want->lse[x] || off <= allowed, "%s: LSE of row %d, head %d is %.9g, not %.9g: off by %.3g > %.3g",
              what, (int)(x / heads), (int)(x % heads), (double)got->lse[x], (double)want->lse[x], off, allowed);
  }
}

static void check_o(const char *what, const test_request *got, const test_request *want, const spindle_shape *s, double bound) {
  double r = test_unit_roundoff(s->o_dtype), squares = 0;
  int64_t count = (int64_t)got->q_len * s->num_q_heads * s->head_dim_v;
  for (int64_t x = 0; x < count; x++) {
    double off = fabs((double)got->o[x] - want->o[x]) - r * fabs((double)want->o[x]);
    squares += off > 0 ? off * off : 0;
    cr_assert(off <= bound, "%s: row %d, head %d, channel %d of O is %.9g, not %.9g: off by %.3g > %.3g", what,
              (int)(x / s->head_dim_v / s->num_q_heads), (int)(x / s->head_dim_v % s->num_q_heads), (int)(x % s->head_dim_v),
              (double)got->o[x], (double)want->o[x], off, bound);
  }
  double root = sqrt(squares / (double)(count ? count : 1));
  cr_assert(count < 1000 || root <= bound / 8, "%s: O is off by %.3g root mean square > %.3g", what, root, bound / 8);
}

static double largest_lse(const test_request *q, int32_t heads) {
  double largest = 0;
  for (int64_t x = 0; x < (int64_t)q->q_len * heads; x++)
    if (isfinite(q->lse[x])) largest = fmax(largest, fabs((double)q->lse[x]));
  return largest;
}

/* A bias is a power whose exponent, up to 40, is a product rounded twice, and so off by up to 64 u of itself. That counts where a
 * row sees no near key: its LSE is about the bias of the nearest. */
void test_halves_close(const char *what, const test_setup *setup, const test_request *got, const test_request *want) {
  spindle_shape s = test_shape(setup->shape);
  test_bound bound = test_halves_bound(setup, got);
  double of_bias = s.bias ? 64 * U * largest_lse(want, s.num_q_heads) : 0;
  bound.lse += of_bias;
  bound.o += 2 * of_bias;
  check_lse(what, got, want, s.num_q_heads, bound.lse);
  check_o(what, got, want, &s, bound.o);
}

void test_halves(const char *what, const test_setup *setup, test_request *requests, int32_t count) {
  spindle_shape s = test_shape(setup->shape);
  test_setup oracle = *setup;
  test_request *want = malloc((size_t)count * sizeof *want);
  oracle.backend = SPINDLE_BACKEND_REFERENCE;
  oracle.shape.o_dtype = SPINDLE_F32;
  oracle.random = NULL;
  oracle.inspect = NULL;
  oracle.split_keys = 0;
  for (int32_t r = 0; r < count; r++) want[r] = test_request_copy(&requests[r], &s);
  test_attend(setup, requests, count);
  test_attend(&oracle, want, count);
  for (int32_t r = 0; r < count; r++) {
    test_halves_close(what, setup, &requests[r], &want[r]);
    test_request_free(&want[r]);
  }
  free(want);
}
