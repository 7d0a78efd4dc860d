/* Random attention calls through the public API: any shape, method, storage and batch, for comparing backends with each other. */
#ifndef SPINDLE_TESTS_SUPPORT_ATTENTION_CASE_H
#define SPINDLE_TESTS_SUPPORT_ATTENTION_CASE_H

#include <spindle/spindle.h>

#include "random.h"

#define TEST_MAX_REQUESTS 4

typedef struct test_case {
  spindle_shape shape; /* all fields filled in */
  spindle_plan_options options;
  int32_t num_requests, num_pages, dense_rows, table_stride;
  int32_t shard_size, shard_count, shard_rank;
  spindle_position position[TEST_MAX_REQUESTS];
  int32_t q_begin[TEST_MAX_REQUESTS], q_len[TEST_MAX_REQUESTS], kv_len[TEST_MAX_REQUESTS], slot[TEST_MAX_REQUESTS];
  int32_t kv_begin[TEST_MAX_REQUESTS];
  int64_t q_index[TEST_MAX_REQUESTS], n[TEST_MAX_REQUESTS], kv_index[TEST_MAX_REQUESTS];
  int32_t *pages;      /* [requests][table_stride] */
  int64_t *page_index; /* NULL: pages follow each other */
  uint32_t *page_span; /* NULL: pages are full */
  double *list;        /* of a rule that has one */
  int32_t q_rows;
  void *q, *k, *v; /* rows that no request uses are NaN */
  float *bias_a, *bias_p, *sinks, *row_scale_s, *row_scale_b;
  float k_scale, v_scale;
  float softcap;
  bool use_sinks;
  char text[512]; /* for messages */
} test_case;

/* features: what may be drawn. */
enum {
  TEST_CASE_DTYPES = 1,  /* else f32 */
  TEST_CASE_STORAGE = 2, /* paged, gaps, shards; else dense from 0 */
  TEST_CASE_METHODS = 4  /* rules, remaps, masks, biases, logit terms; else causal RoPE */
};
void test_case_draw(test_random *r, int32_t features, test_case *c);
void test_case_free(test_case *c);
/* Floats between rows of `dim` channels: a multiple of 16 bytes in any type, as the API asks. */
int64_t test_case_padded(int32_t dim);
/* Zeroed, for free(). */
void *test_case_allocate(size_t bytes);

/* Runs it and gives O as float [q_rows][Hq][Dv] and LSE [q_rows][Hq]. Rows of no request hold what `o` and `lse` held. */
spindle_status test_case_run(const test_case *c, int32_t backend, int32_t num_threads, float *o, float *lse);

/* Draws `cases` and runs each on the reference and on the cpu backend, with 1 to 3 threads. false: they disagree, and stderr says
 * where. */
bool test_case_check_cpu(int32_t features, int cases);

/* How far O (in units of the largest |v|) and LSE of a row may be off, given the row's LSE: see attention_case.c. */
void test_case_tolerance(const test_case *c, float lse, double *o_tolerance, double *lse_tolerance);

#endif
