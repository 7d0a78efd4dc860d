/* Requests whose keys are split: few rows over many keys fill the device, and fixed splits have the same bits whether blocks walk
 * them side by side or one walks all. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdio.h>

#include "support/again.h"
#include "support/halves.h"
#include "support/methods.h"
#include "support/prepared.h"

enum { DIM = 64, KEYS = 3000 };

static const spindle_shape shape = {.q_dtype = SPINDLE_BF16, .num_q_heads = 8, .num_kv_heads = 2, .head_dim_qk = DIM};
static const float sinks[] = {3, -1, 0, 8, 2, 2, 2, 2};

static int32_t splits; /* of request 0, as prepared */
static void count_splits(const spindle_plan *plan) { splits = test_prepared(plan).requests[0].work.num_splits; }

static test_setup setup_of(int32_t split_keys) {
  return (test_setup){.backend = SPINDLE_BACKEND_CUDA,
                      .shape = shape,
                      .split_keys = split_keys,
                      .schedule = SPINDLE_SCHEDULE_IN_LOOP,
                      .inspect = count_splits,
                      .args = {.sink_logits = sinks}};
}

Test(prefill_splits, few_rows_over_many_keys) {
  test_random r = test_random_start();
  static const int32_t rows[] = {3, 40};
  for (int32_t k = 0; k < 4; k++) {
    test_setup setup = setup_of(0);
    spindle_position p =
        k / 2 ? test_remap(test_rule(SPINDLE_ROPE_YARN, DIM), SPINDLE_REMAP_REROPE) : test_rule(SPINDLE_ROPE_DEFAULT, DIM);
    test_request q = test_request_make(&r, &shape, p, rows[k % 2], KEYS, 1);
    test_halves("few rows over many keys", &setup, &q, 1);
    cr_assert_gt(splits, 1, "%d rows are not split", rows[k % 2]);
    test_request_free(&q);
  }
}

/* Values of fewer channels than keys: on Hopper an instance of its own, while decode, which shares its scratch, pads both to 256.
 */
Test(prefill_splits, of_mla) {
  test_random r = test_random_start();
  static const int32_t rows[] = {3, 40, 40};
  for (int32_t k = 0; k < 3; k++) {
    test_setup setup = setup_of(k == 2 ? 100 : 0);
    setup.shape.head_dim_qk = 192;
    setup.shape.head_dim_v = 128;
    setup.shape.rotary_dim = 64;
    setup.shape.rotary_offset = 128;
    setup.shape.pair_layout = SPINDLE_PAIRS_INTERLEAVED;
    test_request q = test_request_make(&r, &setup.shape, test_rule(SPINDLE_ROPE_YARN, 64), rows[k], k == 2 ? 700 : 2000, 1);
    test_halves("splits of MLA", &setup, &q, 1);
    cr_assert_gt(splits, 1, "%d rows are not split", rows[k]);
    test_request_free(&q);
  }
}

/* So few that one of Hopper's consumers has none: it lets the tiles pass, and must not run ahead of the other. */
Test(prefill_splits, few_rows_in_any_order) {
  test_random r = test_random_start();
  for (int32_t k = 0; k < 2; k++) {
    test_setup setup = setup_of(1000);
    test_request q = test_request_make(&r, &shape, test_rule(SPINDLE_ROPE_DEFAULT, DIM), 10, 1000, 1);
    emulator_configure(&(emulator_options){.order = k ? EMULATOR_SHUFFLED : EMULATOR_DESCENDING, .copies = k, .seed = 3});
    test_halves("few rows in any order", &setup, &q, 1);
    cr_assert_eq(splits, 1);
    test_request_free(&q);
  }
}

Test(prefill_splits, fixed) {
  test_random r = test_random_start();
  static const int32_t counts[] = {1, 2, 3, 5, 17};
  for (int32_t k = 0; k < 5; k++) {
    const int32_t keys = 600 + k;
    test_setup setup = setup_of((keys + counts[k] - 1) / counts[k]);
    test_request q = test_request_make(&r, &shape, test_mask(test_rule(SPINDLE_ROPE_LLAMA3, DIM), k % 3), 20, keys, 1);
    char text[60];
    snprintf(text, sizeof text, "%d splits", counts[k]);
    test_halves(text, &setup, &q, 1);
    cr_assert_eq(splits, counts[k]);
    test_request_free(&q);
  }
}

/* A request first has an item for each split. Then, among so many others that the device is full without, one block walks its
 * splits in turn. With page_index and gaps in the text some splits hold no key. */
static void check_in_turn(test_random *r, spindle_shape shape, spindle_position p, const int64_t *key_index, int64_t last) {
  enum { FILLERS = 240 };
  static test_request requests[FILLERS + 1];
  test_setup setup = setup_of(100);
  setup.shape = shape;
  setup.page_size = key_index ? 16 : 0;
  setup.spans = setup.generous = key_index != NULL;
  test_request alone = test_request_make(r, &shape, p, 50, 700, 1);
  alone.key_index = key_index;
  if (key_index) alone.q_index = last - 49;
  requests[0] = test_request_copy(&alone, &shape);
  for (int32_t f = 1; f <= FILLERS; f++) requests[f] = test_request_make(r, &shape, p, 5, 5, 1);
  test_attend(&setup, &alone, 1);
  cr_assert_gt(splits, 1);
  test_attend(&setup, requests, FILLERS + 1);
  cr_assert_eq(splits, 1);
  test_requests_same(test_method_name(&p), &shape, &requests[0], &alone);
  for (int32_t f = 0; f <= FILLERS; f++) test_request_free(&requests[f]);
  test_request_free(&alone);
}

Test(prefill_splits, in_turn_as_side_by_side) {
  test_random r = test_random_start();
  spindle_shape mla = {.q_dtype = SPINDLE_F16, .num_q_heads = 8, .num_kv_heads = 2, .head_dim_qk = 192, .head_dim_v = 128};
  check_in_turn(&r, shape, test_rule(SPINDLE_ROPE_DEFAULT, DIM), NULL, 0);
  check_in_turn(&r, mla, test_rule(SPINDLE_ROPE_DEFAULT, 192), NULL, 0);
  if (!test_again()) check_in_turn(&r, shape, test_remap(test_rule(SPINDLE_ROPE_NTK, DIM), SPINDLE_REMAP_SELF_EXTEND), NULL, 0);
}

Test(prefill_splits, in_turn_over_gaps) {
  test_random r = test_random_start();
  int64_t index[700], next = 30;
  for (int32_t s = 0; s < 700; s++) {
    next += s % 90 == 89 ? 250 : 0;
    index[s] = next++;
  }
  check_in_turn(&r, shape, test_rule(SPINDLE_ROPE_DEFAULT, DIM), index, next);
}

/* Between the sinks and the window lie keys, but none of the window's: the next split is not theirs. */
Test(prefill_splits, in_turn_past_keys_that_no_row_sees) {
  test_random r = test_random_start();
  int64_t index[100] = {0, 1};
  for (int32_t s = 2; s < 100; s++) index[s] = s < 20 ? 8 + s : 1000 + s;
  test_setup setup = setup_of(2);
  setup.page_size = 16;
  setup.spans = true;
  spindle_position p = {.rope = SPINDLE_ROPE_DEFAULT, .window_left = 30, .sink_tokens = 5};
  test_request q = test_request_make(&r, &shape, p, 20, 100, 1);
  q.key_index = index;
  q.q_index = 1080;
  test_halves("keys between sinks and window", &setup, &q, 1);
  cr_assert_eq(splits, 1);
  test_request_free(&q);
}

/* Partial results of fixed splits have a bound. Beyond it a request is walked by one block. */
Test(prefill_splits, too_many_for_scratch) {
  test_random r = test_random_start();
  test_setup setup = setup_of(2);
  test_request q = test_request_make(&r, &shape, test_rule(SPINDLE_ROPE_DEFAULT, DIM), 64, 300, 1);
  test_halves("splits of two keys", &setup, &q, 1);
  cr_assert_eq(splits, 1);
  test_request_free(&q);
}
