/* A paged cache on the emulated device, and a step of requests whose tables the test edits. Every step is compared with what the
 * float64 reference makes of the texts that the tables say. The cache starts as NaN. */
#ifndef SPINDLE_TESTS_SUPPORT_PAGED_H
#define SPINDLE_TESTS_SUPPORT_PAGED_H

#include "attend.h"
#include "mirror.h"

enum {
  TEST_PAGED_REQUESTS = 4,
  TEST_PAGED_PAGE = 16,
  TEST_PAGED_PAGES = 60,
  TEST_PAGED_ENTRIES = 20, /* of a request's table */
  TEST_PAGED_KEYS = TEST_PAGED_ENTRIES * TEST_PAGED_PAGE,
  TEST_PAGED_ROWS = TEST_PAGED_KEYS + 10
};

/* The batch's arrays, as spindle_batch has them. */
typedef struct test_paged_batch {
  int32_t q_begin[TEST_PAGED_REQUESTS], q_len[TEST_PAGED_REQUESTS], kv_len[TEST_PAGED_REQUESTS], position[TEST_PAGED_REQUESTS];
  int64_t q_index[TEST_PAGED_REQUESTS], n[TEST_PAGED_REQUESTS];
  int32_t pages[TEST_PAGED_REQUESTS][TEST_PAGED_ENTRIES];
  int64_t page_index[TEST_PAGED_REQUESTS][TEST_PAGED_ENTRIES];
  uint32_t page_span[TEST_PAGED_REQUESTS][TEST_PAGED_ENTRIES];
} test_paged_batch;

typedef struct test_paged {
  test_setup setup;
  spindle_position position[TEST_PAGED_REQUESTS]; /* slot r; test_paged_set */
  spindle_context *context;
  spindle_positions *positions;
  spindle_plan *plan;
  test_mirror mirror;
  test_paged_batch *batch; /* in device memory, which is the host's */
  spindle_attention_args args;
  void *state;
  size_t state_bytes;
  float *k, *v; /* [slots][Hkv][dim]: what has been appended */
} test_paged;

/* setup: shape, schedule, split_keys and sink_logits. Requests have no rows, and slot r of the position table. */
test_paged test_paged_open(test_random *r, const test_setup *setup);
void test_paged_close(test_paged *p);
void test_paged_set(test_paged *p, int32_t slot, spindle_position position);
/* Appends `count` (at most TEST_PAGED_KEYS) keys and values of normal numbers. */
void test_paged_append(test_paged *p, test_random *r, const int64_t *slot, int32_t count);
/* Adds entry e to a request's table: slots [first, end) of a page, where slot 0 has this index. */
void test_paged_entry(test_paged *p, int32_t request, int32_t e, int32_t page, int32_t first, int32_t end, int64_t index);

/* Prepares and runs the step; fails the test where O or LSE are off. Returns the root mean square of what O is off by. */
double test_paged_check(const char *what, test_paged *p);
/* O of packed row (row x head) number `row` of the step, in float; LSE. */
void test_paged_row(const test_paged *p, int64_t row, float *o, float *lse);

#endif
