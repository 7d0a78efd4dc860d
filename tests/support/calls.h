/* One call each of append, rotate and combine on a device, on small tensors. What they read beside those lies in device memory
 * and changes between runs. */
#ifndef SPINDLE_TESTS_SUPPORT_CALLS_H
#define SPINDLE_TESTS_SUPPORT_CALLS_H

#include <spindle/spindle.h>

enum { TEST_CALLS_ROWS = 6, TEST_CALLS_HEADS = 2, TEST_CALLS_DIM = 32, TEST_CALLS_SLOTS = 16, TEST_CALLS_PARTS = 2 };
enum { TEST_CALLS_HEAD_ROWS = TEST_CALLS_ROWS * TEST_CALLS_HEADS, TEST_CALLS_ELEMENTS = TEST_CALLS_HEAD_ROWS * TEST_CALLS_DIM };

typedef struct test_calls_numbers {
  int64_t slot[TEST_CALLS_ROWS], index[TEST_CALLS_ROWS], n[TEST_CALLS_ROWS];
  float part_lse[TEST_CALLS_PARTS][TEST_CALLS_HEAD_ROWS];
} test_calls_numbers;

/* All that the calls write: the cache of one KV head, bf16; rotated rows; the merged O and LSE. */
typedef struct test_calls_made {
  uint16_t k[TEST_CALLS_SLOTS][TEST_CALLS_DIM], v[TEST_CALLS_SLOTS][TEST_CALLS_DIM], rotated[TEST_CALLS_ELEMENTS];
  float o[TEST_CALLS_ELEMENTS], lse[TEST_CALLS_HEAD_ROWS];
} test_calls_made;

typedef struct test_calls {
  spindle_context *context;
  spindle_stream stream;
  spindle_shape shape;              /* of rotated keys */
  spindle_positions *fixed, *by_n;  /* append's rule, which does not depend on n, and rotate's, which does */
  struct test_calls_memory *memory; /* of the device */
} test_calls;

/* Every one holds the same tensors. */
test_calls test_calls_open(int32_t device);
/* In stream order; what the calls write becomes 0. */
void test_calls_set(test_calls *calls, const test_calls_numbers *numbers);
void test_calls_run(test_calls *calls);
/* Waits. */
void test_calls_fetch(test_calls *calls, test_calls_made *made);
void test_calls_close(test_calls *calls);

#endif
