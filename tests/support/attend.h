/* One attention call through the public API, from requests in plain float arrays to their O and LSE.
 *
 * Requests are laid into storage as the setup says: dense or paged, in order or shuffled, in the shape's dtypes. Every slot, row
 * and channel that belongs to no request holds NaN; whatever a call must not write is checked to be untouched. On a device the
 * storage is copied there and back, and the call has a stream of its own. */
#ifndef SPINDLE_TESTS_SUPPORT_ATTEND_H
#define SPINDLE_TESTS_SUPPORT_ATTEND_H

#include <stdbool.h>

#include <spindle/spindle.h>

#include "random.h"

typedef struct test_request {
  spindle_position position; /* struct_size is filled in */
  int32_t q_len, kv_len;
  int64_t q_index, kv_index;
  int64_t n;                /* 0: the default */
  const int64_t *key_index; /* [kv_len], ascending, for spans; NULL: from kv_index on */
  float *q, *k, *v;         /* [q_len][Hq][D], [kv_len][Hkv][D], [kv_len][Hkv][Dv] */
  float *o, *lse;           /* results: [q_len][Hq][Dv], [q_len][Hq] */
} test_request;

typedef struct test_setup {
  int32_t backend, num_threads;
  spindle_shape shape; /* struct_size is filled in */
  int32_t page_size;   /* 0: dense */
  bool spans;          /* paged: page_index and page_span, keys broken into entries at random */
  bool csr;            /* paged: table_begin instead of a stride */
  int32_t pool;        /* paged: pages of the pool, in units of those that keys lie in; 0: a few more */
  bool generous;       /* bounds far beyond what the batch needs */
  int32_t max_kv_len;  /* at least */
  bool partial;
  bool batched;         /* Q, O and LSE have a batch stride: each request's rows lie in a batch row of their own */
  bool default_q_index; /* the array is NULL */
  int32_t split_keys, schedule;
  int32_t shard_size, shard_count, shard_rank;
  spindle_attention_args args;               /* numbers, weights and scales; the rest is filled in */
  test_random *random;                       /* places rows, keys and pages; NULL: in order, without gaps */
  void (*inspect)(const spindle_plan *plan); /* called after the run, for tests that look at how it was planned */
} test_setup;

/* Defaults filled in. */
spindle_shape test_shape(spindle_shape shape);

/* A request with q, k and v of standard normal numbers, times `spread` for q. */
test_request test_request_make(test_random *r, const spindle_shape *shape, spindle_position position, int32_t q_len,
                               int32_t kv_len, float spread);
/* q_len rows at the end of the keys. */
void test_request_at_end(test_request *request);
void test_request_free(test_request *request);
/* The same data with results of its own. */
test_request test_request_copy(const test_request *request, const spindle_shape *shape);

/* Fails the test if a call fails. */
void test_attend(const test_setup *setup, test_request *requests, int32_t count);
void test_ok(spindle_status status);

/* 256-byte aligned and exactly so long, so that AddressSanitizer sees one byte too many. Filled with NaN of every dtype. */
void *test_memory(size_t bytes);

/* |got - want| <= tolerance and a few roundings of want (infinities equal, no NaN), else the test fails with the worst element.
 */
void test_close(const char *what, const float *got, const float *want, int64_t rows, int64_t heads, int64_t dim,
                double tolerance);
void test_same_bits(const char *what, const float *got, const float *want, int64_t count);
/* O and LSE of both. */
void test_requests_close(const char *what, const spindle_shape *shape, const test_request *got, const test_request *want,
                         double tolerance);
void test_requests_same(const char *what, const spindle_shape *shape, const test_request *got, const test_request *want);

#endif
