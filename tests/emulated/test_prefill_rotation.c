/* Which channels turn and how: any even rotary dim at any offset, half-split and interleaved pairs, decay, far positions. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "support/again.h"
#include "support/halves.h"
#include "support/methods.h"

#define COUNT(list) ((int)(sizeof list / sizeof *list))

static void check(test_random *r, spindle_shape shape, spindle_position p, int64_t kv_index, int64_t behind) {
  for (int32_t schedule = SPINDLE_SCHEDULE_IN_LOOP; schedule <= SPINDLE_SCHEDULE_PREROTATE; schedule++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape, .schedule = schedule};
    test_request q = test_request_make(r, &shape, p, 70, 90, 1);
    char text[200];
    q.kv_index = kv_index;
    test_request_at_end(&q);
    q.q_index += behind;
    snprintf(text, sizeof text, "dim %d rotary %d+%d layout %d schedule %d, key %lld, row %lld: %.80s", shape.head_dim_qk,
             shape.rotary_offset, shape.rotary_dim, shape.pair_layout, schedule, (long long)kv_index, (long long)q.q_index,
             test_method_name(&p));
    test_halves(text, &setup, &q, 1);
    test_request_free(&q);
  }
}

/* Pairs by fours of whole vectors, and all others: Pythia turns 20 channels of 80, GPT-NeoX 24 of 96, DeepSeek's MLA the last 64
 * of 192 beside values of 128. */
Test(prefill_rotation, part_of_the_channels) {
  test_random r = test_random_start();
  static const int32_t dim_rotary_offset[][3] = {{64, 64, 0},   {80, 20, 0},    {96, 24, 0}, {64, 10, 3},   {128, 2, 126},
                                                 {128, 64, 64}, {192, 64, 128}, {40, 38, 1}, {256, 250, 4}, {72, 72, 0}};
  for (int32_t k = 0; k < COUNT(dim_rotary_offset); k++)
    for (int32_t layout = SPINDLE_PAIRS_HALF; layout <= SPINDLE_PAIRS_INTERLEAVED; layout++) {
      if (test_again() && layout == k % 2) continue;
      const int32_t *d = dim_rotary_offset[k];
      spindle_shape shape = {.q_dtype = k % 2 ? SPINDLE_F16 : SPINDLE_BF16,
                             .num_q_heads = 2,
                             .num_kv_heads = 1,
                             .head_dim_qk = d[0],
                             .head_dim_v = d[0] == 192 ? 128 : d[0],
                             .rotary_dim = d[1],
                             .rotary_offset = d[2],
                             .pair_layout = layout};
      check(&r, shape, test_rule(SPINDLE_ROPE_TABLE, d[1]), 0, 0);
    }
}

/* Decay in f16 over blocks of 8 to 2048 keys, rows far behind the keys too. */
Test(prefill_rotation, xpos) {
  test_random r = test_random_start();
  static const double scale_base[] = {2, 20, 64, 512};
  for (int32_t k = 0; k < 8; k++) {
    spindle_shape shape = {.q_dtype = k % 2 ? SPINDLE_F16 : SPINDLE_BF16,
                           .num_q_heads = 2,
                           .head_dim_qk = 64,
                           .rotary_dim = k % 3 ? 64 : 20,
                           .pair_layout = k % 2};
    spindle_position p = test_rule(SPINDLE_ROPE_XPOS, shape.rotary_dim);
    p.scale_base = scale_base[k % 4];
    check(&r, shape, p, k < 4 ? 0 : test_random_int(&r, 0, 100000), k % 3 ? 0 : 40);
  }
}

/* Indices up to 2^40, under every remap: near keys, and rows a long way behind. */
Test(prefill_rotation, far_positions) {
  test_random r = test_random_start();
  const int64_t end = (int64_t)1 << 40;
  spindle_shape shape = {.q_dtype = SPINDLE_BF16, .num_q_heads = 2, .num_kv_heads = 1, .head_dim_qk = 64};
  for (int32_t remap = 0; remap < TEST_NUM_REMAPS; remap++) {
    spindle_position p = test_remap(test_rule(SPINDLE_ROPE_DEFAULT, 64), remap);
    check(&r, shape, p, end - 90 - test_random_log(&r, 1, 1000) + 1, 0);
    check(&r, shape, p, test_random_int(&r, 0, end / 2), test_random_int(&r, 0, end / 3));
  }
}
