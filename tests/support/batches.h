/* Random batches for tests of what reads them: all kinds of storage, and values out of range in every array. */
#ifndef SPINDLE_TESTS_SUPPORT_BATCHES_H
#define SPINDLE_TESTS_SUPPORT_BATCHES_H

#include "kernels/requests.h"
#include "random.h"

#define TEST_BATCH_REQUESTS 600
#define TEST_BATCH_ENTRIES  24   /* of a request */
#define TEST_BATCH_TABLE    2400 /* entries of all requests */
#define TEST_BATCH_SLOTS    (TEST_BATCH_ENTRIES * 128)

/* The batch points to the arrays. */
typedef struct test_batch {
  spindle_batch batch;
  spindle__bounds bounds;
  int32_t q_begin[TEST_BATCH_REQUESTS], q_len[TEST_BATCH_REQUESTS], kv_len[TEST_BATCH_REQUESTS], position[TEST_BATCH_REQUESTS];
  int32_t kv_begin[TEST_BATCH_REQUESTS], kv_batch[TEST_BATCH_REQUESTS], table_begin[TEST_BATCH_REQUESTS + 1];
  int64_t q_index[TEST_BATCH_REQUESTS], n[TEST_BATCH_REQUESTS], kv_index[TEST_BATCH_REQUESTS];
  int32_t pages[TEST_BATCH_TABLE];
  int64_t page_index[TEST_BATCH_TABLE]; /* valid slots ascend */
  uint32_t page_span[TEST_BATCH_TABLE];
} test_batch;

/* Of 1 to TEST_BATCH_REQUESTS requests. */
void test_batch_draw(test_random *r, int32_t requests, test_batch *w);
/* x, or now and then a value out of every range. */
int64_t test_batch_wild(test_random *r, int64_t x);

#endif
