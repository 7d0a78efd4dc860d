/* Few rows of every kind: rows that see nothing, with learned sinks and without, row scales of 0 and below, large logits. */
#include <criterion/criterion.h>
#include <math.h>

#include "support/halves.h"
#include "support/methods.h"

static const spindle_shape shape = {.q_dtype = SPINDLE_BF16, .num_q_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64};

/* Rows before the first key, no keys at all, keys that a window has passed: O = 0, LSE = -inf, or the sink's. */
Test(decode_rows, that_see_nothing) {
  test_random r = test_random_start();
  const float sinks[] = {3, -1, 0, 50};
  for (int32_t k = 0; k < 12; k++) {
    const int32_t keys = k % 3 * 90, behind = k / 3 % 2 * 85; /* the first rows see nothing, or the last ones */
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape, .split_keys = k / 6 * 30};
    setup.args.sink_logits = k % 2 ? sinks : NULL;
    spindle_position p = test_mask(test_rule(SPINDLE_ROPE_DEFAULT, 64), behind ? 1 : 0);
    test_request q = test_request_make(&r, &shape, p, 8, keys, 1);
    q.kv_index = 20;
    q.q_index = behind ? 20 + keys + 45 : 16;
    test_halves("rows that see nothing", &setup, &q, 1);
    for (int32_t x = 0; x < 8 * 4; x++) {
      if (keys && (behind ? x / 4 < 4 : x / 4 > 3)) continue;
      cr_assert(q.lse[x] == (k % 2 ? sinks[x % 4] : -INFINITY), "LSE of no key is %g", (double)q.lse[x]);
      for (int32_t c = 0; c < 64; c++) cr_assert(q.o[x * 64 + c] == 0, "O of no key is %g", (double)q.o[x * 64 + c]);
    }
    test_request_free(&q);
  }
}

/* SSMax: s ln m + b, by head 0, below 0, above, and of changing sign. */
Test(decode_rows, scales_of_any_sign) {
  test_random r = test_random_start();
  static const float s[] = {0, -0.4f, 0.4f, -0.3f}, b[] = {0, 0.1f, 0, 1};
  for (int32_t k = 0; k < 4; k++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape, .split_keys = k % 2 * 50};
    setup.args.row_scale_s = s;
    setup.args.row_scale_b = k % 2 ? b : NULL;
    setup.args.softcap = k / 2 ? 4.0f : 0.0f;
    spindle_position p = test_rule(SPINDLE_ROPE_DEFAULT, 64);
    p.row_scale = SPINDLE_ROWSCALE_SSMAX;
    test_request q = test_request_make(&r, &shape, p, 8, 150, 2);
    test_halves("row scales of any sign", &setup, &q, 1);
    test_request_free(&q);
  }
}

/* One key has all the weight, and the maximum moves by thousands from warp to warp and from split to split. */
Test(decode_rows, large_logits) {
  test_random r = test_random_start();
  for (int32_t k = 0; k < 4; k++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape, .split_keys = k / 2 * 100};
    test_request q = test_request_make(&r, &shape, test_rule(k % 2 ? SPINDLE_ROPE_NONE : SPINDLE_ROPE_DEFAULT, 64), 8, 700, 1000);
    test_halves("large logits", &setup, &q, 1);
    test_request_free(&q);
  }
}
