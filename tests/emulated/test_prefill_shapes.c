/* The shapes that FlashAttention tests, at every head dim and type that a kernel is compiled for and some between them. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdio.h>

#include "support/again.h"
#include "support/halves.h"
#include "support/methods.h"

#define COUNT(list) ((int)(sizeof list / sizeof *list))

static const int32_t lengths[][2] = {{1, 1},     {64, 128},  {128, 192},   {239, 1},     {799, 3},
                                     {113, 203}, {128, 217}, {113, 211},   {108, 256},   {256, 512},
                                     {384, 256}, {640, 128}, {1024, 1024}, {1023, 1024}, {1024, 1023}};
static const int32_t dims[][2] = {{64, 64}, {96, 96},   {128, 128}, {256, 256}, {40, 40}, {72, 24},  {80, 80}, {8, 200},
                                  {112, 8}, {160, 160}, {192, 128}, {100, 72},  {20, 20}, {129, 61}, {160, 96}};

static void check(test_random *r, int32_t shape_number, int32_t dim_number, int32_t dtype, bool causal) {
  const int32_t *n = lengths[shape_number], *d = dims[dim_number];
  static const int32_t heads[][2] = {{2, 2}, {2, 1}, {6, 2}, {6, 1}};
  const int32_t *h = heads[(int64_t)n[0] * n[1] > 100000 ? test_random_int(r, 0, 1) : test_random_int(r, 0, 3)];
  test_setup setup = {.backend = SPINDLE_BACKEND_CUDA,
                      .shape = {.q_dtype = dtype,
                                .o_dtype = test_random_once_in(r, 4) ? SPINDLE_F32 : 0,
                                .num_q_heads = h[0],
                                .num_kv_heads = h[1],
                                .head_dim_qk = d[0],
                                .head_dim_v = d[1],
                                .pair_layout = (int32_t)test_random_int(r, 0, 1)},
                      .default_q_index = true, /* which may be negative: more rows than keys */
                      .random = test_random_once_in(r, 2) ? r : NULL};
  spindle_position p = {.rope = SPINDLE_ROPE_DEFAULT, .not_causal = !causal};
  test_request q = test_request_make(r, &setup.shape, p, n[0], n[1], 1);
  char text[100];
  snprintf(text, sizeof text, "%d x %d, heads %d/%d, dims %d/%d, %s, %s", n[0], n[1], h[0], h[1], d[0], d[1],
           dtype == SPINDLE_F16 ? "f16" : "bf16", causal ? "causal" : "all");
  test_halves(text, &setup, &q, 1);
  test_request_free(&q);
}

/* Every length once with each mask; the head dims in turn, from a random one on. AddressSanitizer, ten times slower, sees the
 * shorter ones, and so does what runs again. */
static void sweep(bool causal) {
  test_random r = test_random_start();
  int32_t first = (int32_t)test_random_int(&r, 0, COUNT(dims) - 1);
  for (int32_t s = 0; s < COUNT(lengths); s++)
    if ((emulator_catches_faults() && !test_again()) || lengths[s][0] * lengths[s][1] < 100000)
      check(&r, s, (first + s) % COUNT(dims), s % 2 == causal ? SPINDLE_F16 : SPINDLE_BF16, causal);
}

Test(prefill_shapes, causal) { sweep(true); }
Test(prefill_shapes, all_keys) { sweep(false); }

/* Short ones at all head dims, in both types. */
Test(prefill_shapes, head_dims) {
  test_random r = test_random_start();
  static const int32_t some[] = {0, 1, 5, 7};
  for (int32_t d = 0; d < COUNT(dims); d++)
    for (int32_t dtype = SPINDLE_F16; dtype <= SPINDLE_BF16; dtype++)
      if (!test_again() || dtype % 2 == d % 2)
        check(&r, some[test_random_int(&r, 0, COUNT(some) - 1)], d, dtype, test_random_once_in(&r, 2));
}
