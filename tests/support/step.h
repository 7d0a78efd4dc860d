/* A small step on a device, whose lengths, page table, position slots and n lie in device memory and change between runs: bf16,
 * 4 query heads on 2 KV heads of 64 channels, paged keys. */
#ifndef SPINDLE_TESTS_SUPPORT_STEP_H
#define SPINDLE_TESTS_SUPPORT_STEP_H

#include <spindle/spindle.h>

enum {
  TEST_STEP_REQUESTS = 3,
  TEST_STEP_ROWS = 40,
  TEST_STEP_KEYS = 96,
  TEST_STEP_PAGE = 16,
  TEST_STEP_ENTRIES = TEST_STEP_KEYS / TEST_STEP_PAGE, /* of a request's table */
  TEST_STEP_PAGES = TEST_STEP_REQUESTS * TEST_STEP_ENTRIES + 2,
  TEST_STEP_SLOTS = 4,
  TEST_STEP_O = TEST_STEP_ROWS * 4 * 64,
  TEST_STEP_LSE = TEST_STEP_ROWS * 4
};

typedef struct test_step_lengths {
  int32_t q_begin[TEST_STEP_REQUESTS], q_len[TEST_STEP_REQUESTS], kv_len[TEST_STEP_REQUESTS], slot[TEST_STEP_REQUESTS];
  int64_t n[TEST_STEP_REQUESTS];
  int32_t pages[TEST_STEP_REQUESTS][TEST_STEP_ENTRIES];
} test_step_lengths;

typedef struct test_step {
  spindle_context *context;
  spindle_stream stream;
  spindle_positions *positions;
  spindle_plan *plan;
  void *state, *memory[8]; /* Q, K, V, O, LSE, scratch */
  size_t state_bytes;
  test_step_lengths *lengths; /* device memory */
  spindle_batch batch;
  spindle_attention_args args;
} test_step;

/* Every step holds the same tensors. options NULL: defaults; bounds are filled in. */
test_step test_step_open(const spindle_plan_options *options);
test_step test_step_open_on(int32_t device, const spindle_plan_options *options);
/* In stream order. */
void test_step_set(test_step *step, const test_step_lengths *lengths);
spindle_status test_step_run(test_step *step);
/* O and LSE as they were made, to be filled by the next run. */
void test_step_clear(test_step *step);
/* o: [TEST_STEP_O] bf16 bits, lse: [TEST_STEP_LSE]. Waits. */
void test_step_fetch(test_step *step, uint16_t *o, float *lse);
void test_step_close(test_step *step);

#endif
