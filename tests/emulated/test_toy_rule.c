/* A rule that the library does not know, as its user adds it: a function of the pair, handed over as a table. All backends and
 * schedules serve it, with a remap, a bias and a row scale of the library's. docs/adding-a-method.md tells of it. */
#include <criterion/criterion.h>
#include <math.h>

#include "support/halves.h"

enum { DIM = 64, PAIRS = DIM / 2 };

/* Golden RoPE: each pair is slower than the last by the golden ratio, back and forth, and the slowest quarter does not turn. */
static double toy_inv_freq(int t) { return t < 3 * PAIRS / 4 ? (t % 2 ? -1 : 1) * pow(1.618033988749895, -t) : 0; }

static spindle_position toy_rule(double *inv_freq) {
  for (int t = 0; t < PAIRS; t++) inv_freq[t] = toy_inv_freq(t);
  return (spindle_position){.rope = SPINDLE_ROPE_TABLE, .num_pairs = PAIRS, .inv_freq = inv_freq, .attention_factor = 1.1};
}

Test(toy_rule, is_served_by_every_backend) {
  test_random r = test_random_start();
  static const float slopes[] = {0.02f, 0.1f};
  double inv_freq[PAIRS];
  for (int32_t k = 0; k < 6; k++) {
    test_setup setup = {.backend = k < 4 ? SPINDLE_BACKEND_CUDA : SPINDLE_BACKEND_CPU,
                        .shape = {.q_dtype = SPINDLE_BF16, .num_q_heads = 2, .num_kv_heads = 1, .head_dim_qk = DIM},
                        .schedule = k % 2 ? SPINDLE_SCHEDULE_IN_LOOP : SPINDLE_SCHEDULE_PREROTATE};
    spindle_position p = toy_rule(inv_freq);
    if (k % 4 >= 2) { /* in company */
      p.remap = SPINDLE_REMAP_REROPE;
      p.remap_window = 30;
      p.row_scale = SPINDLE_ROWSCALE_LOGN;
      p.row_scale_length = 50;
      setup.shape.bias = SPINDLE_BIAS_ALIBI;
      setup.args.bias_a = slopes;
    }
    test_request q = test_request_make(&r, &setup.shape, p, 70, 90, 1);
    test_halves("a toy rule", &setup, &q, 1);
    test_request_free(&q);
  }
}

/* What it resolves to is what was handed in. */
Test(toy_rule, resolves_to_itself) {
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_BF16, .num_q_heads = 2, .head_dim_qk = DIM};
  double inv_freq[PAIRS], got[PAIRS], factor, scale;
  spindle_position p = toy_rule(inv_freq);
  p.struct_size = sizeof p;
  test_ok(spindle_position_resolve(&p, &shape, 1, got, &factor, &scale));
  for (int t = 0; t < PAIRS; t++) cr_assert_eq(got[t], toy_inv_freq(t));
  cr_assert(factor == 1.1 && scale == 1);
}
