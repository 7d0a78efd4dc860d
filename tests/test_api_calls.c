/* Misuse of plans, prepare, attention, append, rotate and combine: refused before anything is written. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/methods.h"
#include "support/refused.h"

enum { ROWS = 6, KEYS = 10, HEADS = 4, KV_HEADS = 2, DIM = 16, PAGE = 4, PAGES = 5 };

static const spindle_shape shape = {
    .struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = HEADS, .num_kv_heads = KV_HEADS, .head_dim_qk = DIM};
static const spindle_plan_options bounds = {
    .struct_size = sizeof bounds, .max_requests = 2, .max_q_rows = ROWS, .max_kv_len = KEYS};

/* One valid step, to be broken in one place at a time. */
typedef struct step {
  spindle_context *context;
  spindle_positions *table;
  spindle_plan *plan;
  spindle_batch batch;
  spindle_attention_args args;
  char *state, *scratch, *q, *k, *v, *o, *lse;
  size_t state_bytes, scratch_bytes, o_bytes;
  int32_t *q_begin, *q_len, *kv_len;
} step;

static step make(void) {
  step s;
  memset(&s, 0, sizeof s);
  test_ok(spindle_context_create(&s.context, NULL));
  test_ok(spindle_positions_create(&s.table, s.context, &shape, 2));
  test_ok(spindle_plan_create(&s.plan, s.context, &shape, &bounds));
  test_ok(spindle_plan_workspace(s.plan, &s.state_bytes, &s.scratch_bytes));
  s.o_bytes = ROWS * HEADS * DIM * sizeof(float);
  char **tensors[] = {&s.q, &s.o, &s.lse};
  for (int t = 0; t < 3; t++) *tensors[t] = test_memory(2 * s.o_bytes);
  s.k = test_memory(2 * KEYS * KV_HEADS * DIM * sizeof(float));
  s.v = test_memory(2 * KEYS * KV_HEADS * DIM * sizeof(float));
  s.state = test_memory(s.state_bytes + 256);
  s.scratch = test_memory(s.scratch_bytes + 256);
  s.q_begin = calloc(2, sizeof *s.q_begin);
  s.q_len = calloc(2, sizeof *s.q_len);
  s.kv_len = calloc(2, sizeof *s.kv_len);
  s.q_len[0] = 3;
  s.kv_len[0] = 5;
  memset(s.q, 0, s.o_bytes);
  s.batch = (spindle_batch){
      .struct_size = sizeof s.batch, .max_requests = 2, .q_begin = s.q_begin, .q_len = s.q_len, .kv_len = s.kv_len};
  s.args = (spindle_attention_args){.struct_size = sizeof s.args,
                                    .q_rows = ROWS,
                                    .q = {.data = s.q},
                                    .o = {.data = s.o},
                                    .k = {.data = s.k},
                                    .v = {.data = s.v},
                                    .lse = {.data = (float *)s.lse},
                                    .scratch = s.scratch,
                                    .scratch_bytes = s.scratch_bytes};
  return s;
}

static void destroy(step *s) {
  void *all[] = {s->state, s->scratch, s->q, s->k, s->v, s->o, s->lse, s->q_begin, s->q_len, s->kv_len};
  for (size_t a = 0; a < sizeof all / sizeof *all; a++) free(all[a]);
  spindle_plan_destroy(s->plan);
  spindle_positions_destroy(s->table);
  spindle_context_destroy(s->context);
}

static spindle_status prepare(step *s, const spindle_batch *b) {
  return spindle_plan_prepare(s->plan, s->table, b, s->state, s->state_bytes, NULL);
}

/* ---- Plans ---- */

#define BAD_BOUND(field, value, ...)                                                                                    \
  do {                                                                                                                  \
    spindle_plan_options o = bounds;                                                                                    \
    o.field = (value);                                                                                                  \
    REFUSED(spindle_plan_create(&plan, context, &shape, &o), SPINDLE_INVALID_ARGUMENT, "options." #field, __VA_ARGS__); \
  } while (0)

Test(api_calls, plans_refused) {
  spindle_context *context;
  spindle_plan *plan = NULL;
  size_t bytes = 7;
  test_ok(spindle_context_create(&context, NULL));
  BAD_BOUND(max_requests, 0, "[1, 65536]");
  BAD_BOUND(max_requests, 65537, "65537");
  BAD_BOUND(max_q_rows, 0, "is 0");
  BAD_BOUND(max_q_rows, (1 << 30) + 1, "1073741825");
  BAD_BOUND(max_q_len, ROWS + 1, "is 7", "6]");
  BAD_BOUND(max_q_len, -1, "-1");
  BAD_BOUND(page_size, -1, "-1");
  BAD_BOUND(page_size, 65536, "65536", "65535");
  BAD_BOUND(max_kv_len, 0, "is 0");
  BAD_BOUND(max_kv_len, (int64_t)1 << 31, "2147483648");
  BAD_BOUND(split_keys, -1, "-1");
  BAD_BOUND(schedule, 3, "is 3", "[0, 2]");
  BAD_BOUND(partial, 2, "is 2", "[0, 1]");
  BAD_BOUND(remap_set, 0x100, "256");
  BAD_BOUND(row_scale_set, 0x20, "32");
  REFUSED(spindle_plan_create(NULL, context, &shape, &bounds), SPINDLE_INVALID_ARGUMENT, "plan is NULL");
  REFUSED(spindle_plan_create(&plan, NULL, &shape, &bounds), SPINDLE_INVALID_ARGUMENT, "context is NULL");
  REFUSED(spindle_plan_create(&plan, context, NULL, &bounds), SPINDLE_INVALID_ARGUMENT, "shape is NULL");
  REFUSED(spindle_plan_create(&plan, context, &shape, NULL), SPINDLE_INVALID_ARGUMENT, "options is NULL");
  REFUSED(spindle_plan_workspace(NULL, &bytes, &bytes), SPINDLE_INVALID_ARGUMENT, "plan is NULL");
  cr_assert_null(plan);
  cr_assert_eq(bytes, 7);
  spindle_context_destroy(context);
}

/* ---- Prepare ---- */

#define BAD_BATCH(field, value, ...)                                                                                 \
  do {                                                                                                               \
    spindle_batch b = s.batch;                                                                                       \
    b.field = (value);                                                                                               \
    REFUSED(prepare(&s, &b), SPINDLE_INVALID_ARGUMENT, "batch." #field, __VA_ARGS__);                                \
    REFUSED(spindle_batch_check(s.plan, s.table, &b, NULL), SPINDLE_INVALID_ARGUMENT, "batch." #field, __VA_ARGS__); \
  } while (0)

Test(api_calls, batches_refused) {
  step s = make();
  static const int64_t wide[2];
  test_ok(prepare(&s, &s.batch));
  BAD_BATCH(max_requests, 0, "[1, 2]");
  BAD_BATCH(max_requests, 3, "is 3", "[1, 2]");
  BAD_BATCH(page_size, 16, "is 16", "0");
  BAD_BATCH(num_pages, -1, "-1");
  BAD_BATCH(dense_rows, -1, "-1");
  BAD_BATCH(shard_count, -1, "-1");
  BAD_BATCH(shard_size, -1, "-1");
  BAD_BATCH(shard_rank, 1, "is 1", "0]");
  BAD_BATCH(reserved, 1, "is 1");
  BAD_BATCH(q_begin, NULL, "NULL");
  BAD_BATCH(q_len, NULL, "NULL");
  BAD_BATCH(kv_len, NULL, "NULL");
  BAD_BATCH(pages, s.q_begin, "dense");
  BAD_BATCH(table_begin, s.q_begin, "dense");
  BAD_BATCH(page_index, wide, "dense");
  BAD_BATCH(page_span, (const uint32_t *)wide, "dense");
  spindle_batch b = s.batch;
  b.q_len = (const int32_t *)((const char *)s.q_len + 2);
  REFUSED(prepare(&s, &b), SPINDLE_MISALIGNED, "batch.q_len", "4");
  b = s.batch;
  b.n = (const int64_t *)((const char *)wide + 4);
  REFUSED(prepare(&s, &b), SPINDLE_MISALIGNED, "batch.n", "8");
  b = s.batch;
  b.shard_count = 2; /* where rows of a shard stand in the text is not to be guessed from its own keys */
  REFUSED(prepare(&s, &b), SPINDLE_INVALID_ARGUMENT, "batch.q_index", "NULL");
  destroy(&s);
}

Test(api_calls, paged_batches_refused) {
  step s = make();
  spindle_plan_options paged = bounds;
  static const int64_t wide[2];
  paged.page_size = PAGE;
  spindle_plan_destroy(s.plan);
  test_ok(spindle_plan_create(&s.plan, s.context, &shape, &paged));
  s.batch.page_size = PAGE;
  s.batch.num_pages = PAGES;
  s.batch.pages = s.q_begin;
  s.batch.table_stride = 1;
  BAD_BATCH(page_size, 0, "is 0", "4");
  BAD_BATCH(page_size, PAGE + 1, "is 5", "4");
  BAD_BATCH(num_pages, 0, "is 0");
  BAD_BATCH(pages, NULL, "NULL");
  BAD_BATCH(table_stride, 0, "is 0");
  BAD_BATCH(table_stride, -1, "-1");
  BAD_BATCH(kv_begin, s.q_begin, "paged");
  BAD_BATCH(kv_batch, s.q_begin, "paged");
  BAD_BATCH(dense_rows, 9, "is 9");
  s.batch.page_index = wide;
  REFUSED(prepare(&s, &s.batch), SPINDLE_INVALID_ARGUMENT, "batch.q_index", "NULL");
  s.batch.q_index = wide;
  BAD_BATCH(kv_index, wide, "page_index");
  s.batch.shard_count = 2;
  REFUSED(prepare(&s, &s.batch), SPINDLE_INVALID_ARGUMENT, "batch.page_index", "shard_count");
  destroy(&s);
}

Test(api_calls, prepare_refuses_the_wrong_objects_and_workspaces) {
  step s = make(), other = make();
  spindle_shape another = shape;
  spindle_positions *table;
  spindle_stream stream = (spindle_stream)&s;
  another.pair_layout = SPINDLE_PAIRS_INTERLEAVED;
  test_ok(spindle_positions_create(&table, s.context, &another, 1));
  REFUSED(spindle_plan_prepare(NULL, s.table, &s.batch, s.state, s.state_bytes, NULL), SPINDLE_INVALID_ARGUMENT, "plan is NULL");
  REFUSED(spindle_plan_prepare(s.plan, NULL, &s.batch, s.state, s.state_bytes, NULL), SPINDLE_INVALID_ARGUMENT,
          "positions is NULL");
  REFUSED(spindle_plan_prepare(s.plan, table, &s.batch, s.state, s.state_bytes, NULL), SPINDLE_INVALID_ARGUMENT, "positions",
          "shape");
  REFUSED(spindle_plan_prepare(s.plan, other.table, &s.batch, s.state, s.state_bytes, NULL), SPINDLE_INVALID_ARGUMENT,
          "positions", "context");
  REFUSED(spindle_plan_prepare(s.plan, s.table, &s.batch, s.state, s.state_bytes, stream), SPINDLE_INVALID_ARGUMENT, "stream");
  REFUSED(spindle_batch_check(NULL, s.table, &s.batch, NULL), SPINDLE_INVALID_ARGUMENT, "plan is NULL");
  REFUSED(spindle_batch_check(s.plan, NULL, &s.batch, NULL), SPINDLE_INVALID_ARGUMENT, "positions is NULL");
  if (s.state_bytes) {
    REFUSED(spindle_plan_prepare(s.plan, s.table, &s.batch, NULL, s.state_bytes, NULL), SPINDLE_INVALID_ARGUMENT,
            "state is NULL");
    REFUSED(spindle_plan_prepare(s.plan, s.table, &s.batch, s.state + 16, s.state_bytes, NULL), SPINDLE_MISALIGNED, "state",
            "256");
    REFUSED(spindle_plan_prepare(s.plan, s.table, &s.batch, s.state, s.state_bytes - 1, NULL), SPINDLE_WORKSPACE_TOO_SMALL,
            "state", "needs");
  }
  REFUSED(spindle_attention(s.plan, &s.args, NULL), SPINDLE_INVALID_ARGUMENT, "prepared");
  spindle_positions_destroy(table);
  destroy(&s);
  destroy(&other);
}

/* A plan that was told which methods occur refuses a table that holds others. */
Test(api_calls, prepare_refuses_methods_that_the_plan_left_out) {
  step s = make();
  spindle_plan_options lean = bounds;
  lean.remap_set = 1u << SPINDLE_REMAP_NONE | 1u << SPINDLE_REMAP_REROPE;
  lean.row_scale_set = 1u << SPINDLE_ROWSCALE_NONE;
  spindle_plan_destroy(s.plan);
  test_ok(spindle_plan_create(&s.plan, s.context, &shape, &lean));
  spindle_position p = test_remap(test_rule(SPINDLE_ROPE_DEFAULT, DIM), SPINDLE_REMAP_REROPE);
  test_ok(spindle_positions_set(s.table, 0, &p, NULL));
  test_ok(prepare(&s, &s.batch));
  p = test_remap(test_rule(SPINDLE_ROPE_DEFAULT, DIM), SPINDLE_REMAP_DCA);
  test_ok(spindle_positions_set(s.table, 1, &p, NULL));
  REFUSED(prepare(&s, &s.batch), SPINDLE_INVALID_ARGUMENT, "remap_set", "4");
  p = (spindle_position){.struct_size = sizeof p, .row_scale = SPINDLE_ROWSCALE_SSMAX};
  test_ok(spindle_positions_set(s.table, 1, &p, NULL));
  REFUSED(prepare(&s, &s.batch), SPINDLE_INVALID_ARGUMENT, "row_scale_set", "4");
  destroy(&s);
}

/* ---- Attention ---- */

#define BAD_ARGS(change, want, ...)                                                                                          \
  do {                                                                                                                       \
    spindle_attention_args a = s.args;                                                                                       \
    change;                                                                                                                  \
    REFUSED(spindle_attention(s.plan, &a, NULL), want, __VA_ARGS__);                                                         \
    for (size_t b = 0; b < s.o_bytes; b++) cr_assert_eq((unsigned char)s.o[b], 0xff, "O was written by a call that failed"); \
  } while (0)

Test(api_calls, attention_refused) {
  step s = make();
  spindle_stream stream = (spindle_stream)&s;
  float weight[HEADS];
  test_ok(prepare(&s, &s.batch));
  REFUSED(spindle_attention(NULL, &s.args, NULL), SPINDLE_INVALID_ARGUMENT, "plan is NULL");
  REFUSED(spindle_attention(s.plan, &s.args, stream), SPINDLE_INVALID_ARGUMENT, "stream");
  BAD_ARGS(a.q_rows = -1, SPINDLE_INVALID_ARGUMENT, "args.q_rows", "-1");
  BAD_ARGS(a.q_rows = INT64_MAX, SPINDLE_INVALID_ARGUMENT, "args.q_rows");
  BAD_ARGS(a.scale = NAN, SPINDLE_INVALID_ARGUMENT, "args.scale", "nan");
  BAD_ARGS(a.scale = INFINITY, SPINDLE_INVALID_ARGUMENT, "args.scale", "inf");
  BAD_ARGS(a.softcap = -1, SPINDLE_INVALID_ARGUMENT, "args.softcap", "-1");
  BAD_ARGS(a.softcap = NAN, SPINDLE_INVALID_ARGUMENT, "args.softcap", "nan");
  BAD_ARGS(a.bias_a = weight, SPINDLE_INVALID_ARGUMENT, "args.bias_a", "bias");
  BAD_ARGS(a.bias_p = weight, SPINDLE_INVALID_ARGUMENT, "args.bias_p", "bias");
  BAD_ARGS(a.sink_logits = (const float *)((const char *)weight + 1), SPINDLE_MISALIGNED, "args.sink_logits");
  BAD_ARGS(a.q.data = NULL, SPINDLE_INVALID_ARGUMENT, "args.q", "NULL");
  BAD_ARGS(a.k.data = NULL, SPINDLE_INVALID_ARGUMENT, "args.k", "NULL");
  BAD_ARGS(a.v.data = NULL, SPINDLE_INVALID_ARGUMENT, "args.v", "NULL");
  BAD_ARGS(a.o.data = NULL, SPINDLE_INVALID_ARGUMENT, "args.o", "NULL");
  BAD_ARGS(a.q.data = s.q + 8, SPINDLE_MISALIGNED, "args.q", "16");
  BAD_ARGS(a.k.data = s.k + 4, SPINDLE_MISALIGNED, "args.k", "16");
  BAD_ARGS(a.v.data = s.v + 1, SPINDLE_MISALIGNED, "args.v", "16");
  BAD_ARGS(a.o.data = s.o + 12, SPINDLE_MISALIGNED, "args.o", "16");
  BAD_ARGS(a.lse.data = (float *)(s.lse + 2), SPINDLE_MISALIGNED, "args.lse");
  BAD_ARGS(a.q.row = HEADS * DIM + 1, SPINDLE_MISALIGNED, "args.q.row", "65");
  BAD_ARGS(a.q.head = DIM + 2, SPINDLE_MISALIGNED, "args.q.head", "18");
  BAD_ARGS(a.k.page = KEYS * KV_HEADS * DIM + 1, SPINDLE_MISALIGNED, "args.k.page");
  BAD_ARGS(a.v.row = 33, SPINDLE_MISALIGNED, "args.v.row", "33");
  BAD_ARGS(a.o.row = -64, SPINDLE_INVALID_ARGUMENT, "args.o.row", "-64");
  BAD_ARGS(a.o.head = 8, SPINDLE_INVALID_ARGUMENT, "args.o.head", "8", "16");
  BAD_ARGS(a.k.row = INT64_MAX, SPINDLE_INVALID_ARGUMENT, "args.k.row");
  BAD_ARGS(a.k.head = INT64_MIN, SPINDLE_INVALID_ARGUMENT, "args.k.head");
  BAD_ARGS(a.q.head = INT64_MIN, SPINDLE_INVALID_ARGUMENT, "args.q.head");
  BAD_ARGS(a.o.row = (int64_t)1 << 47, SPINDLE_OVERLAP, "args.o", "args.");
  BAD_ARGS(a.k.scale = weight, SPINDLE_INVALID_ARGUMENT, "args.k.scale", "f32");
  BAD_ARGS(a.v.scale_head = 2, SPINDLE_INVALID_ARGUMENT, "args.v.scale_head", "2");
  BAD_ARGS(a.lse.row = -1, SPINDLE_INVALID_ARGUMENT, "args.lse.row", "-1");
  BAD_ARGS(a.o.data = s.q, SPINDLE_OVERLAP, "args.o", "args.q");
  BAD_ARGS(a.o.data = s.q + s.o_bytes - 16, SPINDLE_OVERLAP, "args.o", "args.q");
  BAD_ARGS(a.o.data = s.k, SPINDLE_OVERLAP, "args.o", "args.k");
  BAD_ARGS(a.o.data = s.v, SPINDLE_OVERLAP, "args.o", "args.v");
  BAD_ARGS(a.lse.data = (float *)s.q, SPINDLE_OVERLAP, "args.lse", "args.q");
  BAD_ARGS(a.lse.data = (float *)(s.o + 16), SPINDLE_OVERLAP, "args.o", "args.lse");
  if (s.scratch_bytes) {
    BAD_ARGS(a.scratch = NULL, SPINDLE_INVALID_ARGUMENT, "args.scratch is NULL");
    BAD_ARGS(a.scratch = s.scratch + 64, SPINDLE_MISALIGNED, "args.scratch", "256");
    BAD_ARGS(a.scratch_bytes = s.scratch_bytes - 1, SPINDLE_WORKSPACE_TOO_SMALL, "args.scratch", "needs");
    BAD_ARGS(a.o.data = s.scratch, SPINDLE_OVERLAP, "args.o", "args.scratch");
  }
  if (s.state_bytes) BAD_ARGS(a.o.data = s.state, SPINDLE_OVERLAP, "args.o", "state");
  test_ok(spindle_attention(s.plan, &s.args, NULL));
  s.args.q_rows = 0; /* nothing to do, so nothing is needed but a cache */
  s.args.q.data = s.args.o.data = NULL;
  test_ok(spindle_attention(s.plan, &s.args, NULL));
  destroy(&s);
}

Test(api_calls, attention_needs_the_weights_of_its_methods) {
  step s = make();
  spindle_position ssmax = {.struct_size = sizeof ssmax, .row_scale = SPINDLE_ROWSCALE_SSMAX};
  test_ok(spindle_positions_set(s.table, 1, &ssmax, NULL));
  test_ok(prepare(&s, &s.batch));
  REFUSED(spindle_attention(s.plan, &s.args, NULL), SPINDLE_INVALID_ARGUMENT, "args.row_scale_s", "SSMAX");
  for (int32_t bias = SPINDLE_BIAS_ALIBI; bias <= SPINDLE_BIAS_KERPLE_POWER; bias++) {
    spindle_shape biased = shape;
    spindle_plan *plan;
    spindle_positions *table;
    spindle_attention_args a = s.args;
    float weight[HEADS] = {0};
    biased.bias = bias;
    test_ok(spindle_plan_create(&plan, s.context, &biased, &bounds));
    test_ok(spindle_positions_create(&table, s.context, &biased, 1));
    test_ok(spindle_plan_prepare(plan, table, &s.batch, s.state, s.state_bytes, NULL));
    REFUSED(spindle_attention(plan, &a, NULL), SPINDLE_INVALID_ARGUMENT, "args.bias_a is NULL");
    a.bias_a = weight;
    if (bias != SPINDLE_BIAS_ALIBI) REFUSED(spindle_attention(plan, &a, NULL), SPINDLE_INVALID_ARGUMENT, "args.bias_p is NULL");
    a.bias_p = weight;
    if (bias == SPINDLE_BIAS_ALIBI) REFUSED(spindle_attention(plan, &a, NULL), SPINDLE_INVALID_ARGUMENT, "args.bias_p is given");
    spindle_plan_destroy(plan);
    spindle_positions_destroy(table);
  }
  destroy(&s);
}
