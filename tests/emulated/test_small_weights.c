/* Keys whose weights are tiny beside that of one other, as everything is beside an attention sink: together they count, so 16-bit
 * weights must not lose them. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

#include "support/attend.h"
#include "support/dtypes.h"
#include "support/methods.h"

enum { DIM = 64, KEYS = 3000 };

/* The first key's score is `exponent` powers of two above all others, or as near as its type comes. V is 0 there and 1 elsewhere,
 * so O is the share of the others. */
static void check(test_random *r, int32_t dtype, int32_t kv_dtype, int32_t rows, double exponent) {
  const double scale = 1.0 / 8;
  test_setup setup = {
      .backend = SPINDLE_BACKEND_CUDA,
      .shape = {.q_dtype = dtype, .kv_dtype = kv_dtype, .o_dtype = SPINDLE_F32, .num_q_heads = 1, .head_dim_qk = DIM},
      .args = {.scale = (float)scale},
      .random = r};
  test_request q = test_request_make(r, &setup.shape, test_rule(SPINDLE_ROPE_NONE, DIM), rows, KEYS, 1);
  char text[100];
  q.position.not_causal = 1;
  for (int x = 0; x < rows * DIM; x++) q.q[x] = x % DIM == 5;
  for (int x = 0; x < KEYS * DIM; x++) q.k[x] = 0, q.v[x] = x >= DIM;
  q.k[5] = (float)test_round(kv_dtype ? kv_dtype : dtype, (float)(exponent * log(2.0) / scale));
  const double want = (KEYS - 1) / (KEYS - 1 + exp((double)q.k[5] * scale));
  test_attend(&setup, &q, 1);
  snprintf(text, sizeof text, "dtype %d, keys of %d, %d rows, 2^-%g", dtype, kv_dtype, rows, exponent);
  for (int x = 0; x < rows * DIM; x++) /* all weights are rounded alike: by up to 2^-9 to bf16 */
    cr_assert_float_eq(q.o[x] / want, 1, 0.003, "%s: the others have %.4g of the weight, not %.4g", text, (double)q.o[x], want);
  test_request_free(&q);
}

Test(small_weights, count) {
  test_random r = test_random_start();
  static const int32_t dtypes[][2] = {
      {SPINDLE_BF16, 0}, {SPINDLE_F16, 0}, {SPINDLE_BF16, SPINDLE_F8E4M3}, {SPINDLE_F16, SPINDLE_F8E4M3}};
  for (int d = 0; d < 4; d++)
    for (int few = 0; few < 2; few++)
      for (int exponent = 14; exponent <= 26; exponent += 4) check(&r, dtypes[d][0], dtypes[d][1], few ? 1 : 20, exponent);
}
