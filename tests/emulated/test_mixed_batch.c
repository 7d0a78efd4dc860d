/* Requests of one batch, prefill beside decode, each under its own rule, factor, remap, mask, row scale and n: every one is what
 * it is alone, bit for bit with fixed splits. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdio.h>

#include "support/halves.h"
#include "support/methods.h"

enum { REQUESTS = 10, HEADS = 8, DIM = 64 };

static const spindle_shape shape = {.q_dtype = SPINDLE_BF16, .num_q_heads = HEADS, .num_kv_heads = 2, .head_dim_qk = DIM};
static const float sinks[HEADS] = {1, -2, 5, 0, 3, 3, 3, 3}, slopes[HEADS] = {0, 0.3f, -0.2f, 0.1f, 0.4f, 0.2f, 0.5f, -0.1f};

/* A server's: plain, YaRN at three factors, dynamic NTK and LongRoPE at short and long n, ReRoPE, a window, anything. */
static spindle_position method_of(test_random *r, int32_t request) {
  spindle_position p = test_rule(SPINDLE_ROPE_YARN, DIM);
  switch (request) {
    case 0: return test_rule(SPINDLE_ROPE_DEFAULT, DIM);
    case 1:
    case 2:
    case 3: p.factor = 1 << request; return p;
    case 4:
    case 5: return test_rule(SPINDLE_ROPE_DYNAMIC_NTK, DIM);
    case 6:
    case 7: return test_rule(SPINDLE_ROPE_LONGROPE, DIM);
    case 8: return test_remap(p, SPINDLE_REMAP_REROPE);
    default: break;
  }
  p = test_any_method(r, DIM);
  p.s2_wrap = 0;
  p.row_scale = SPINDLE_ROWSCALE_SSMAX;
  return p;
}

static test_request draw_request(test_random *r, int32_t number) {
  const int32_t keys = (int32_t)test_random_int(r, 30, 400),
                rows = (int32_t)(test_random_once_in(r, 3) ? test_random_int(r, 5, 25) : test_random_int(r, 1, 4));
  test_request q = test_request_make(r, &shape, method_of(r, number), rows, keys, 1);
  if (number == 4 || number == 6) q.n = 96;
  if (number == 5 || number == 7) q.n = 500;
  return q;
}

/* Alone: dense and with tight bounds. Together: the first in the batch is any of them, in pages. */
static void check(test_random *r, int32_t split_keys) {
  test_setup setup = {.backend = SPINDLE_BACKEND_CUDA, .shape = shape, .split_keys = split_keys};
  test_request together[REQUESTS];
  int32_t order[REQUESTS];
  setup.args.sink_logits = sinks;
  setup.args.row_scale_s = slopes;
  test_setup batch = setup;
  batch.page_size = 16;
  batch.generous = true;
  batch.random = r;
  test_random_permutation(r, order, REQUESTS);
  for (int32_t q = 0; q < REQUESTS; q++) together[q] = draw_request(r, order[q]);
  test_halves("together", &batch, together, REQUESTS);
  for (int32_t q = 0; q < REQUESTS; q++) {
    test_request alone = test_request_copy(&together[q], &shape);
    char text[300];
    test_attend(&setup, &alone, 1);
    snprintf(text, sizeof text, "request %d, split_keys %d, %s", order[q], split_keys, test_method_name(&alone.position));
    test_requests_same(text, &shape, &together[q], &alone);
    test_request_free(&alone);
    test_request_free(&together[q]);
  }
}

Test(mixed_batch, requests_are_what_they_are_alone) {
  test_random r = test_random_start();
  static const int32_t splits[] = {64, 100, 17, 1000};
  for (int32_t round = 0; round < (emulator_catches_faults() ? 4 : 1); round++) check(&r, splits[round]);
}
