/* Rows: any number of query heads on a KV head, rows that see nothing, row scales of 0 and below, logits of 1e4, LSE. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

#include "support/halves.h"
#include "support/methods.h"

#define COUNT(list) ((int)(sizeof list / sizeof *list))

static spindle_shape shape_of(int32_t q_heads, int32_t kv_heads) {
  return (spindle_shape){.q_dtype = SPINDLE_BF16, .num_q_heads = q_heads, .num_kv_heads = kv_heads, .head_dim_qk = 64};
}

/* Packed rows of a KV head fill a tile, or a tile has a few rows of many heads, or part of the heads of one row. */
Test(prefill_rows, any_ratio_of_heads) {
  test_random r = test_random_start();
  static const int32_t heads[][2] = {{3, 3}, {4, 2}, {8, 2}, {10, 2}, {7, 1}, {16, 2}, {71, 1}, {300, 2}};
  for (int32_t k = 0; k < COUNT(heads); k++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape_of(heads[k][0], heads[k][1]), .random = &r};
    test_request q = test_request_make(&r, &setup.shape, test_mask(test_rule(SPINDLE_ROPE_DEFAULT, 64), heads[k][0] % 2 ? 1 : 4),
                                       heads[k][0] > 50 ? 9 : 61, 100, 1);
    char text[60];
    snprintf(text, sizeof text, "heads %d/%d", heads[k][0], heads[k][1]);
    test_halves(text, &setup, &q, 1);
    test_request_free(&q);
  }
}

/* Rows before the first key, no keys at all, keys that a window has passed: O = 0, LSE = -inf, or the sink's. */
Test(prefill_rows, that_see_nothing) {
  test_random r = test_random_start();
  const float sinks[] = {3, -1};
  for (int32_t k = 0; k < 8; k++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape_of(2, 1), .default_q_index = k < 4};
    setup.args.sink_logits = k % 2 ? sinks : NULL;
    setup.args.softcap = k % 4 / 2 ? 5.0f : 0.0f;
    setup.shape.bias = k % 4 / 2 ? SPINDLE_BIAS_ALIBI : SPINDLE_BIAS_NONE;
    setup.args.bias_a = k % 4 / 2 ? sinks : NULL;
    spindle_position p = test_mask(test_rule(SPINDLE_ROPE_DEFAULT, 64), k / 4);
    test_request q = test_request_make(&r, &setup.shape, p, 150, k % 3 * 20, 1); /* a window of 50 from index 20 + k on */
    q.q_index = 20 + k;
    test_halves("rows that see nothing", &setup, &q, 1);
    for (int32_t x = 0; k % 3 == 0 && x < 300; x++)
      cr_assert(q.lse[x] == (k % 2 ? sinks[x % 2] : -INFINITY), "LSE of no key is %g", (double)q.lse[x]);
    for (int32_t x = 0; k % 3 == 0 && x < 300 * 64; x++) cr_assert(q.o[x] == 0, "O of no key is %g", (double)q.o[x]);
    test_request_free(&q);
  }
}

/* Chunks so long that whole tiles of keys lie in one, and tiles of rows in two: then some rows see all of a tile, the others
 * none. */
Test(prefill_rows, of_two_chunks) {
  test_random r = test_random_start();
  for (int32_t k = 0; k < 3; k++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape_of(2, 1)};
    spindle_position p = test_rule(SPINDLE_ROPE_DEFAULT, 64);
    p.remap = k ? SPINDLE_REMAP_DCA : SPINDLE_REMAP_NONE;
    p.remap_chunk = k ? 170 : 0;
    p.remap_local = k ? 20 : 0;
    p.chunk = k < 2 ? 150 : 0;
    test_request q = test_request_make(&r, &setup.shape, p, 200, 340, 1);
    test_halves(test_method_name(&p), &setup, &q, 1);
    test_request_free(&q);
  }
}

/* SSMax: s ln m + b, by head 0, below 0, above, and of changing sign. */
Test(prefill_rows, scales_of_any_sign) {
  test_random r = test_random_start();
  static const float s[] = {0, -0.4f, 0.4f, -0.3f}, b[] = {0, 0.1f, 0, 1};
  for (int32_t k = 0; k < 4; k++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape_of(4, 2)};
    setup.args.row_scale_s = s;
    setup.args.row_scale_b = k % 2 ? b : NULL;
    setup.args.softcap = k / 2 ? 4.0f : 0.0f;
    spindle_position p = test_rule(SPINDLE_ROPE_DEFAULT, 64);
    p.row_scale = SPINDLE_ROWSCALE_SSMAX;
    test_request q = test_request_make(&r, &setup.shape, p, 90, 90, 2);
    test_halves("row scales of any sign", &setup, &q, 1);
    test_request_free(&q);
  }
}

/* One key has all the weight, and the maximum moves by thousands from tile to tile. */
Test(prefill_rows, large_logits) {
  test_random r = test_random_start();
  for (int32_t k = 0; k < 2; k++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape_of(2, 1)};
    test_request q =
        test_request_make(&r, &setup.shape, test_rule(k ? SPINDLE_ROPE_NONE : SPINDLE_ROPE_DEFAULT, 64), 100, 300, 1000);
    setup.shape.q_dtype = SPINDLE_BF16;
    test_halves("large logits", &setup, &q, 1);
    test_request_free(&q);
  }
}

/* Logits of 1e5, of operands that no rotation has rounded: floats of that size are 8e-3 apart, and so are the weights' exponents
 * not known better than that. Many rows, and few, which decode has. */
Test(prefill_rows, logits_of_1e5) {
  test_random r = test_random_start();
  for (int32_t k = 0; k < 2; k++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape_of(2, 1)}, oracle = setup;
    test_request q = test_request_make(&r, &setup.shape, test_rule(SPINDLE_ROPE_NONE, 64), k ? 8 : 100, 300, 25000);
    test_request want = test_request_copy(&q, &setup.shape);
    double largest = 0;
    oracle.backend = SPINDLE_BACKEND_REFERENCE;
    oracle.shape.o_dtype = SPINDLE_F32;
    test_attend(&setup, &q, 1);
    test_attend(&oracle, &want, 1);
    for (int32_t x = 0; x < q.q_len * 2; x++) largest = fmax(largest, fabs((double)want.lse[x]));
    cr_assert_gt(largest, k ? 5e4 : 8e4);
    test_close("O at logits of 1e5", q.o, want.o, q.q_len, 2, 64, 0.15);
    test_close("LSE of 1e5", q.lse, want.lse, q.q_len, 2, 1, 0.05);
    test_request_free(&q);
    test_request_free(&want);
  }
}
