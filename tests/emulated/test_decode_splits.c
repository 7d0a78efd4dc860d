/* Few rows over keys that are cut into 1 to 97 splits, which blocks walk apart: whatever each of them sees, and the learned sink,
 * counts once. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdio.h>

#include "support/halves.h"
#include "support/methods.h"
#include "support/prepared.h"

#define COUNT(list) ((int)(sizeof list / sizeof *list))

static const spindle_shape shape = {.q_dtype = SPINDLE_BF16, .num_q_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64};
static const float sinks[] = {6, -1, 0, 8, 2, 20, -60, 2};

static int32_t splits; /* as prepared */
static void count_splits(const spindle_plan *plan) { splits = test_prepared(plan).requests[0].work.num_splits; }

/* A text from any index on, whose first and last splits are cut short. */
static test_request draw_request(test_random *r, spindle_position position, int32_t count, int32_t size) {
  const int64_t from = test_random_int(r, 0, 1000000), first = from / size;
  int64_t last = test_random_int(r, (first + count - 1) * size, (first + count) * size - 1);
  if (last < from) last = from;
  test_request q = test_request_make(r, &shape, position, (int32_t)test_random_int(r, 1, 4), (int32_t)(last - from + 1), 1);
  q.kv_index = from;
  test_request_at_end(&q);
  return q;
}

static void check(test_random *r, spindle_position position, int32_t count, const float *sink_logits) {
  const int32_t size = (int32_t)test_random_int(r, 1, count > 20 ? 12 : 150);
  test_setup setup = {.backend = SPINDLE_BACKEND_CUDA,
                      .shape = shape,
                      .page_size = test_random_once_in(r, 2) ? 16 : 0,
                      .split_keys = size,
                      .random = r,
                      .inspect = count_splits,
                      .args = {.sink_logits = sink_logits}};
  test_request q = draw_request(r, position, count, size);
  char text[300];
  snprintf(text, sizeof text, "%d splits of %d, %d rows, %s, %s", count, size, q.q_len, sink_logits ? "sinks" : "no sinks",
           test_method_name(&position));
  test_halves(text, &setup, &q, 1);
  cr_assert_eq(splits, count, "%s: %d splits", text, splits);
  test_request_free(&q);
}

static const int32_t counts[] = {1, 2, 3, 5, 17, 32, 55, 97};

Test(decode_splits, of_any_number) {
  test_random r = test_random_start();
  for (int c = 0; c < COUNT(counts); c++) check(&r, test_rule(SPINDLE_ROPE_DEFAULT, 64), counts[c], c % 2 ? sinks : NULL);
}

/* Most splits lie before the window: they hold keys, but none that a row sees. Two maps cut a split in two. */
Test(decode_splits, that_see_nothing) {
  test_random r = test_random_start();
  for (int c = 0; c < COUNT(counts); c++) {
    check(&r, test_mask(test_rule(SPINDLE_ROPE_LLAMA3, 64), 1 + c % 2), counts[c], c % 2 ? NULL : sinks);
    check(&r, test_remap(test_rule(SPINDLE_ROPE_YARN, 64), SPINDLE_REMAP_REROPE), counts[c], sinks);
  }
}
