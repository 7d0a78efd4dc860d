/* One request of dense f32 rows through the public API, from context to result: for tests that know the answer by hand. */
#ifndef SPINDLE_TESTS_SUPPORT_TINY_H
#define SPINDLE_TESTS_SUPPORT_TINY_H

#include <spindle/spindle.h>

typedef struct test_tiny {
  int32_t backend;
  spindle_shape shape;       /* heads, dims, layout, bias; the rest is filled in */
  spindle_position position; /* struct_size is filled in */
  int32_t q_len, kv_len;
  int64_t q_index, kv_index;
  int64_t n;                   /* 0: q_index + q_len */
  const float *q, *k, *v;      /* [q_len][Hq][D], [kv_len][Hkv][D], [kv_len][Hkv][Dv] */
  spindle_attention_args args; /* scale, softcap and per-head weights; the rest is filled in */
} test_tiny;

/* o [q_len][Hq][Dv] and lse [q_len][Hq], either may be NULL. */
spindle_status test_tiny_run(const test_tiny *t, float *o, float *lse);

/* The score of query row i and key j alone, for a shape of one head, D = Dv = 8: the LSE over one key is its score. */
spindle_status test_tiny_score(const test_tiny *t, int64_t i, int64_t j, float *score);

#endif
