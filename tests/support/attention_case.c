#include "attention_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtypes.h"
#include "mirror.h"

#define TRY(call)                                    \
  do {                                               \
    spindle_status try_status = (call);              \
    if (try_status != SPINDLE_OK) return try_status; \
  } while (0)

/* ---- Running ---- */

typedef struct objects {
  spindle_context *context;
  spindle_positions *positions;
  spindle_plan *plan;
  void *state, *scratch, *o;
  test_mirror mirror;
} objects;

static int64_t page_rows(const test_case *c) { return c->options.page_size ? c->options.page_size : c->dense_rows; }

static spindle_batch make_batch(const test_case *c, test_mirror *m) {
  bool paged = c->options.page_size > 0;
  size_t small = (size_t)c->num_requests * sizeof(int32_t), large = (size_t)c->num_requests * sizeof(int64_t),
         entries = (size_t)c->num_requests * (size_t)c->table_stride;
  return (spindle_batch){.struct_size = sizeof(spindle_batch),
                         .max_requests = c->num_requests,
                         .page_size = c->options.page_size,
                         .num_pages = c->num_pages,
                         .dense_rows = c->dense_rows,
                         .shard_size = c->shard_size,
                         .shard_count = c->shard_count,
                         .shard_rank = c->shard_rank,
                         .q_begin = test_mirror_in(m, c->q_begin, small),
                         .q_len = test_mirror_in(m, c->q_len, small),
                         .kv_len = test_mirror_in(m, c->kv_len, small),
                         .q_index = test_mirror_in(m, c->q_index, large),
                         .n = test_mirror_in(m, c->n, large),
                         .position = test_mirror_in(m, c->slot, small),
                         .kv_index = paged ? NULL : test_mirror_in(m, c->kv_index, large),
                         .kv_begin = paged ? NULL : test_mirror_in(m, c->kv_begin, small),
                         .pages = test_mirror_in(m, c->pages, entries * sizeof *c->pages),
                         .table_stride = c->table_stride,
                         .page_index = test_mirror_in(m, c->page_index, entries * sizeof *c->page_index),
                         .page_span = test_mirror_in(m, c->page_span, entries * sizeof *c->page_span)};
}

static spindle_attention_args make_args(const test_case *c, objects *x, float *lse) {
  const spindle_shape *s = &c->shape;
  test_mirror *m = &x->mirror;
  int64_t k = test_case_padded(s->head_dim_qk), v = test_case_padded(s->head_dim_v), rows = page_rows(c);
  int64_t q_vectors = (int64_t)c->q_rows * s->num_q_heads, kv_row = s->num_kv_heads, kv_page = rows * kv_row;
  size_t kv_bytes = (size_t)(c->num_pages * kv_page) * test_dtype_bytes(s->kv_dtype);
  size_t weights = (size_t)s->num_q_heads * sizeof(float);
  bool scaled = s->kv_dtype == SPINDLE_F8E4M3;
  bool kerple = s->bias == SPINDLE_BIAS_KERPLE_LOG || s->bias == SPINDLE_BIAS_KERPLE_POWER;
  const float *k_scale = scaled ? test_mirror_in(m, &c->k_scale, sizeof c->k_scale) : NULL;
  const float *v_scale = scaled ? test_mirror_in(m, &c->v_scale, sizeof c->v_scale) : NULL;
  return (spindle_attention_args){
      .struct_size = sizeof(spindle_attention_args),
      .q_rows = c->q_rows,
      .q = {test_mirror_in(m, c->q, (size_t)(q_vectors * k) * test_dtype_bytes(s->q_dtype)), 0, s->num_q_heads * k, k},
      .o = {test_mirror_out(m, x->o, (size_t)(q_vectors * v) * test_dtype_bytes(s->o_dtype)), 0, s->num_q_heads * v, v},
      .k = {test_mirror_in(m, c->k, kv_bytes * (size_t)k), kv_page * k, kv_row * k, k, k_scale, 0},
      .v = {test_mirror_in(m, c->v, kv_bytes * (size_t)v), kv_page * v, kv_row * v, v, v_scale, 0},
      .lse = {.data = test_mirror_out(m, lse, (size_t)q_vectors * sizeof *lse)},
      .softcap = c->softcap,
      .bias_a = s->bias ? test_mirror_in(m, c->bias_a, weights) : NULL,
      .bias_p = kerple ? test_mirror_in(m, c->bias_p, weights) : NULL,
      .sink_logits = c->use_sinks ? test_mirror_in(m, c->sinks, weights) : NULL,
      .row_scale_s = test_mirror_in(m, c->row_scale_s, weights),
      .row_scale_b = test_mirror_in(m, c->row_scale_b, weights)};
}

static spindle_status run(const test_case *c, objects *x, float *lse) {
  size_t state_bytes, scratch_bytes;
  TRY(spindle_positions_create(&x->positions, x->context, &c->shape, c->num_requests));
  for (int32_t k = 0; k < c->num_requests; k++) TRY(spindle_positions_set(x->positions, k, &c->position[k], NULL));
  TRY(spindle_plan_create(&x->plan, x->context, &c->shape, &c->options));
  TRY(spindle_plan_workspace(x->plan, &state_bytes, &scratch_bytes));
  TRY(spindle_malloc(x->context, &x->state, state_bytes));
  TRY(spindle_malloc(x->context, &x->scratch, scratch_bytes));
  x->mirror = test_mirror_open(x->context);
  spindle_batch batch = make_batch(c, &x->mirror);
  spindle_attention_args args = make_args(c, x, lse);
  args.scratch = x->scratch;
  args.scratch_bytes = scratch_bytes;
  TRY(spindle_plan_prepare(x->plan, x->positions, &batch, x->state, state_bytes, NULL));
  TRY(spindle_attention(x->plan, &args, NULL));
  test_mirror_fetch(&x->mirror, NULL);
  return SPINDLE_OK;
}

spindle_status test_case_run(const test_case *c, int32_t backend, int32_t num_threads, float *o, float *lse) {
  spindle_context_options options = {.struct_size = sizeof options, .backend = backend, .num_threads = num_threads};
  const spindle_shape *s = &c->shape;
  int64_t v = test_case_padded(s->head_dim_v), rows = (int64_t)c->q_rows * s->num_q_heads;
  size_t bytes = test_dtype_bytes(s->o_dtype);
  objects x = {0};
  x.o = test_case_allocate((size_t)(rows * v) * bytes);
  for (int64_t row = 0; row < rows; row++)
    for (int64_t d = 0; d < s->head_dim_v; d++)
      test_store(s->o_dtype, (char *)x.o + (size_t)(row * v + d) * bytes, o[row * s->head_dim_v + d]);
  spindle_status status = spindle_context_create(&x.context, &options);
  if (status == SPINDLE_OK) status = run(c, &x, lse);
  for (int64_t row = 0; row < rows; row++)
    for (int64_t d = 0; d < s->head_dim_v; d++)
      o[row * s->head_dim_v + d] = test_load(s->o_dtype, (char *)x.o + (size_t)(row * v + d) * bytes);
  free(x.o);
  test_mirror_close(&x.mirror);
  if (x.context) spindle_free(x.context, x.state);
  if (x.context) spindle_free(x.context, x.scratch);
  spindle_plan_destroy(x.plan);
  spindle_positions_destroy(x.positions);
  spindle_context_destroy(x.context);
  return status;
}

/* A float score is off by
 *     rotation     1e-6 for each of q and k, of |q| |k|
 *     the product  sqrt(D) roundings of 2^-24 of |q| |k|, and the few of scale, softcap and bias, which are as large as the score
 * and scores near the row's maximum are as large as its LSE. A weight is off by twice a score's error, O by that of the largest
 * |v|, and by one rounding to its type. |q| |k| scale is at most about 2 sqrt(D) here, for normal numbers; A^2 and the row scale
 * at most double it. */
void test_case_tolerance(const test_case *c, float lse, double *o_tolerance, double *lse_tolerance) {
  double size = 4 * sqrt(c->shape.head_dim_qk) * c->k_scale * (isfinite(lse) ? 1 : 0);
  double magnitude = isfinite(lse) ? fabs((double)lse) : 0;
  double score = size * (2e-6 + sqrt(c->shape.head_dim_qk) * 0x1p-24) + (magnitude + 10) * 0x1p-22;
  *o_tolerance = 2 * score + 2 * test_unit_roundoff(c->shape.o_dtype);
  *lse_tolerance = score + magnitude * 0x1p-23;
}

/* ---- Against the reference ---- */

#define UNTOUCHED 7.0f

static bool row_agrees(const test_case *c, int64_t row, const float *o, const float *lse, const float *right_o,
                       const float *right_lse) {
  double largest = 6 * c->v_scale; /* of |v|, normal numbers */
  double o_tolerance, lse_tolerance;
  test_case_tolerance(c, right_lse[row], &o_tolerance, &lse_tolerance);
  bool lse_agrees = isinf(right_lse[row]) ? lse[row] == right_lse[row] : fabs((double)lse[row] - right_lse[row]) <= lse_tolerance;
  if (!lse_agrees)
    fprintf(stderr, "row %lld: LSE %.9g, reference %.9g, tolerance %g\n", (long long)row, lse[row], right_lse[row],
            lse_tolerance);
  for (int32_t d = 0; d < c->shape.head_dim_v; d++) {
    int64_t at = row * c->shape.head_dim_v + d;
    if (fabs((double)o[at] - right_o[at]) <= largest * o_tolerance) continue;
    fprintf(stderr, "row %lld channel %d: O %.9g, reference %.9g, tolerance %g\n", (long long)row, d, o[at], right_o[at],
            largest * o_tolerance);
    return false;
  }
  return lse_agrees;
}

static bool agrees(const test_case *c, int32_t threads) {
  size_t rows = (size_t)c->q_rows * (size_t)c->shape.num_q_heads, count = rows * (size_t)c->shape.head_dim_v;
  float *o = test_case_allocate(2 * count * sizeof *o), *lse = test_case_allocate(2 * rows * sizeof *lse);
  for (size_t x = 0; x < 2 * count; x++) o[x] = UNTOUCHED;
  for (size_t x = 0; x < 2 * rows; x++) lse[x] = UNTOUCHED;
  bool right = test_case_run(c, SPINDLE_BACKEND_REFERENCE, 0, o, lse) == SPINDLE_OK &&
               test_case_run(c, SPINDLE_BACKEND_CPU, threads, o + count, lse + rows) == SPINDLE_OK;
  if (!right) fprintf(stderr, "%s\n", spindle_last_error());
  for (size_t row = 0; right && row < rows; row++) right = row_agrees(c, (int64_t)row, o + count, lse + rows, o, lse);
  free(o);
  free(lse);
  return right;
}

bool test_case_check_cpu(int32_t features, int cases) {
  test_random r = test_random_start();
  bool right = true;
  for (int number = 0; right && number < cases; number++) {
    test_case c;
    test_case_draw(&r, features, &c);
    right = agrees(&c, (int32_t)test_random_int(&r, 1, 3));
    if (!right) fprintf(stderr, "case %d: %s\n", number, c.text);
    test_case_free(&c);
  }
  return right;
}
