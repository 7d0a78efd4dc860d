/* Scores of +-1e5: a float of that size is right to 4e-3 at best, but nothing overflows, and the row's winner wins. */
#include <math.h>
#include <stdlib.h>

#include <criterion/criterion.h>

#include "support/random.h"
#include "support/tiny.h"

enum { ROWS = 200, HEADS = 2, DIM = 64 };

static void check(float softcap, int32_t rope) {
  size_t count = (size_t)ROWS * HEADS * DIM, lse_count = (size_t)ROWS * HEADS;
  float *q = malloc(count * sizeof *q), *k = malloc(count * sizeof *k), *v = malloc(count * sizeof *v);
  float *o = malloc(2 * count * sizeof *o), *lse = malloc(2 * lse_count * sizeof *lse);
  test_random r = test_random_start();
  for (size_t x = 0; x < count; x++) {
    q[x] = 350 * (float)test_random_normal(&r);
    k[x] = 100 * (float)test_random_normal(&r);
    v[x] = (float)test_random_normal(&r);
  }
  test_tiny call = {.shape = {.num_q_heads = HEADS, .head_dim_qk = DIM},
                    .position = {.rope = rope},
                    .q_len = ROWS,
                    .kv_len = ROWS,
                    .q = q,
                    .k = k,
                    .v = v,
                    .args = {.softcap = softcap}};
  call.backend = SPINDLE_BACKEND_REFERENCE;
  cr_assert_eq(test_tiny_run(&call, o, lse), SPINDLE_OK, "%s", spindle_last_error());
  call.backend = SPINDLE_BACKEND_CPU;
  cr_assert_eq(test_tiny_run(&call, o + count, lse + lse_count), SPINDLE_OK, "%s", spindle_last_error());
  float largest = 0;
  for (size_t x = 0; x < lse_count; x++) {
    /* |q| |k| scale is 2.8e5: two rotations at 1e-6, and the product's 8 roundings of 2^-24 */
    double tolerance = softcap ? 1e-3 * softcap : 2.8e5 * (2e-6 + 8 * 0x1p-24);
    largest = fmaxf(largest, fabsf(lse[x]));
    cr_assert(fabs((double)lse[lse_count + x] - lse[x]) <= tolerance, "row %zu: LSE %.9g, reference %.9g", x, lse[lse_count + x],
              lse[x]);
  }
  for (size_t x = 0; x < count; x++) cr_assert(isfinite(o[count + x]), "channel %zu is not finite", x);
  if (!softcap) cr_assert(largest > 1e5f, "the largest LSE is only %g", largest);
  free(q), free(k), free(v), free(o), free(lse);
}

Test(cpu_extremes, huge_logits) { check(0, SPINDLE_ROPE_DEFAULT); }
Test(cpu_extremes, huge_logits_without_positions) { check(0, SPINDLE_ROPE_NONE); }
Test(cpu_extremes, huge_logits_under_a_softcap) { check(50, SPINDLE_ROPE_DEFAULT); }
