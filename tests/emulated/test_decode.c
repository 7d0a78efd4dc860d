/* Few query rows over many keys: at most 16 packed rows a KV head, so the decode kernel. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdio.h>
#include <string.h>

#include "support/halves.h"
#include "support/layer.h"
#include "support/methods.h"

/* Wrapped groups want a whole number of them. */
static spindle_position any_method(test_random *r, int32_t rotary_dim) {
  spindle_position p = test_any_method(r, rotary_dim);
  p.s2_wrap = 0;
  return p;
}

/* The check build and AddressSanitizer. */
static bool is_slow(void) { return emulator_sees_plain_accesses() || !emulator_catches_faults(); }

#define COUNT(list) ((int)(sizeof list / sizeof *list))

static const spindle_shape shape = {.q_dtype = SPINDLE_BF16, .num_q_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64};

/* FlashAttention's decode shapes and some around the sizes of a tile, as far as group x rows stays within 16. */
Test(decode, shapes) {
  test_random r = test_random_start();
  static const int32_t lengths[][2] = {{1, 1},   {1, 63},   {1, 64},    {1, 65},  {1, 128},  {1, 339},   {3, 1024},
                                       {3, 799}, {4, 3000}, {16, 2000}, {16, 17}, {2, 5000}, {1, 20000}, {4, 3}};
  static const int32_t dims[][2] = {{64, 64}, {96, 96}, {128, 128}, {256, 256}, {80, 80}, {192, 128}, {20, 20}, {128, 61}};
  int32_t first = (int32_t)test_random_int(&r, 0, COUNT(dims) - 1);
  for (int s = 0; s < COUNT(lengths); s++) {
    if (is_slow() && lengths[s][1] > 4000) continue;
    const int32_t *n = lengths[s], *d = dims[(first + s) % COUNT(dims)], group = 16 / n[0] < 7 ? 16 / n[0] : 7;
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA,
                        .shape = {.q_dtype = s % 2 ? SPINDLE_F16 : SPINDLE_BF16,
                                  .o_dtype = s % 3 ? 0 : SPINDLE_F32,
                                  .num_q_heads = 2 * group,
                                  .num_kv_heads = 2,
                                  .head_dim_qk = d[0],
                                  .head_dim_v = d[1],
                                  .pair_layout = s / 2 % 2},
                        .page_size = s % 4 == 1   ? 16
                                     : s % 4 == 2 ? 64
                                                  : 0,
                        .default_q_index = true,
                        .random = test_random_once_in(&r, 2) ? &r : NULL};
    test_request q = test_request_make(&r, &setup.shape, test_rule(SPINDLE_ROPE_YARN, d[0] & ~1), n[0], n[1], 1);
    char text[80];
    snprintf(text, sizeof text, "%d x %d, dims %d/%d, group %d", n[0], n[1], d[0], d[1], group);
    test_halves(text, &setup, &q, 1);
    test_request_free(&q);
  }
}

/* Every kind of method, mask, bias, row scale, layout and storage, a few rows at a time. */
Test(decode, methods) {
  test_random r = test_random_start();
  for (int round = 0; round < (is_slow() ? 8 : 18); round++) {
    test_layer l;
    test_layer_draw(&r, &l);
    int32_t group = l.setup.shape.num_q_heads / l.setup.shape.num_kv_heads;
    if (group > 16) continue;
    test_request q = test_request_make(&r, &l.setup.shape, any_method(&r, l.setup.shape.rotary_dim),
                                       (int32_t)test_random_int(&r, 1, 16 / group), (int32_t)test_random_log(&r, 16, 700), 1);
    test_halves(test_layer_describe(&l, &q), &l.setup, &q, 1);
    test_request_free(&q);
  }
}

/* One long request beside many short ones and a prefill: its keys are split as the machine likes. */
Test(decode, unequal_lengths) {
  test_random r = test_random_start();
  test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape, .page_size = 64, .random = &r};
  test_request requests[12];
  for (int q = 0; q < COUNT(requests); q++) {
    int32_t keys = q == 5 ? 9000 : (int32_t)test_random_int(&r, 20, 300), rows = q == 7 ? 19 : (int32_t)test_random_int(&r, 1, 4);
    requests[q] = test_request_make(&r, &shape, any_method(&r, 64), rows, keys, 1);
  }
  test_halves("unequal lengths", &setup, requests, COUNT(requests));
  for (int q = 0; q < COUNT(requests); q++) test_request_free(&requests[q]);
}

/* With fixed splits the bits of a request depend on nothing but the request. */
Test(decode, fixed_splits) {
  test_random r = test_random_start();
  static const int32_t splits[] = {64, 100, 17, 512};
  for (int round = 0; round < (is_slow() ? 4 : 12); round++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape, .split_keys = splits[round % 4]};
    test_request requests[4], alone;
    for (int q = 0; q < 4; q++)
      requests[q] = test_request_make(&r, &shape, any_method(&r, 64), (int32_t)test_random_int(&r, 1, 4),
                                      (int32_t)test_random_log(&r, 4, 900), 1);
    alone = test_request_copy(&requests[2], &shape);
    test_attend(&setup, &alone, 1);
    setup.generous = true;
    test_attend(&setup, requests, 4);
    test_requests_same(test_method_name(&alone.position), &shape, &requests[2], &alone);
    for (int q = 0; q < 4; q++) test_request_free(&requests[q]);
    test_request_free(&alone);
  }
}

/* Splits that find no room in scratch are walked by one block in turn: the same bits. Twice the heads is too much room. */
Test(decode, splits_apart_or_in_turn) {
  if (is_slow()) return; /* 4000 parts */
  test_random r = test_random_start();
  spindle_shape wide = {.q_dtype = SPINDLE_BF16, .num_q_heads = 96, .num_kv_heads = 6, .head_dim_qk = 64}, narrow = wide;
  narrow.num_q_heads /= 2;
  narrow.num_kv_heads /= 2;
  const int32_t keys = 1400;
  test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = wide, .split_keys = 2};
  test_request all =
      test_request_make(&r, &wide, test_remap(test_rule(SPINDLE_ROPE_DEFAULT, 64), SPINDLE_REMAP_REROPE), 1, keys, 1);
  test_request half = test_request_make(&r, &narrow, all.position, 1, keys, 1);
  memcpy(half.q, all.q, sizeof *half.q * 48 * 64);
  for (int32_t j = 0; j < keys; j++) {
    memcpy(half.k + j * 3 * 64, all.k + j * 6 * 64, sizeof *half.k * 3 * 64);
    memcpy(half.v + j * 3 * 64, all.v + j * 6 * 64, sizeof *half.v * 3 * 64);
  }
  cr_assert(48 * (keys / 2 + 1) < 65536 && 96 * (keys / 2) > 65536, "FIXED_SPLIT_ROWS of host/cuda/plan.c");
  test_attend(&setup, &all, 1);
  setup.shape = narrow;
  test_attend(&setup, &half, 1);
  test_same_bits("O", half.o, all.o, 48 * 64);
  test_same_bits("LSE", half.lse, all.lse, 48);
  test_request_free(&all);
  test_request_free(&half);
}
