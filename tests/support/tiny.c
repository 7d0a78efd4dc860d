#include "tiny.h"

#include <string.h>

#define TRY(call)                                    \
  do {                                               \
    spindle_status try_status = (call);              \
    if (try_status != SPINDLE_OK) return try_status; \
  } while (0)

typedef struct {
  spindle_context *context;
  spindle_positions *positions;
  spindle_plan *plan;
  void *state, *scratch;
  float *q, *k, *v, *o, *lse;
} objects;

static spindle_status copy_in(spindle_context *context, float **to, const float *from, size_t count) {
  TRY(spindle_malloc(context, (void **)to, count * sizeof(float)));
  return spindle_copy(context, *to, from, count * sizeof(float), NULL);
}

static spindle_status make(const test_tiny *t, const spindle_shape *shape, size_t o_count, size_t lse_count, objects *x) {
  spindle_position position = t->position;
  position.struct_size = sizeof position;
  spindle_plan_options options = {
      .struct_size = sizeof options, .max_requests = 1, .max_q_rows = t->q_len, .max_kv_len = t->kv_len};
  size_t state_bytes, scratch_bytes, keys = (size_t)t->kv_len * (size_t)shape->num_kv_heads;
  spindle_context *c = x->context;
  TRY(spindle_positions_create(&x->positions, c, shape, 1));
  TRY(spindle_positions_set(x->positions, 0, &position, NULL));
  TRY(spindle_plan_create(&x->plan, c, shape, &options));
  TRY(spindle_plan_workspace(x->plan, &state_bytes, &scratch_bytes));
  TRY(spindle_malloc(c, &x->state, state_bytes));
  TRY(spindle_malloc(c, &x->scratch, scratch_bytes));
  TRY(copy_in(c, &x->q, t->q, lse_count * (size_t)shape->head_dim_qk));
  TRY(copy_in(c, &x->k, t->k, keys * (size_t)shape->head_dim_qk));
  TRY(copy_in(c, &x->v, t->v, keys * (size_t)shape->head_dim_v));
  TRY(spindle_malloc(c, (void **)&x->o, o_count * sizeof(float)));
  return spindle_malloc(c, (void **)&x->lse, lse_count * sizeof(float));
}

static spindle_status attend(const test_tiny *t, objects *x) {
  const int32_t zero = 0;
  int64_t n = t->n ? t->n : t->q_index + t->q_len;
  spindle_batch batch = {.struct_size = sizeof batch,
                         .max_requests = 1,
                         .q_begin = &zero,
                         .q_len = &t->q_len,
                         .kv_len = &t->kv_len,
                         .q_index = &t->q_index,
                         .kv_index = &t->kv_index,
                         .n = &n};
  size_t state_bytes, scratch_bytes;
  TRY(spindle_plan_workspace(x->plan, &state_bytes, &scratch_bytes));
  TRY(spindle_plan_prepare(x->plan, x->positions, &batch, x->state, state_bytes, NULL));
  spindle_attention_args args = t->args;
  args.struct_size = sizeof args;
  args.q_rows = t->q_len;
  args.q.data = x->q;
  args.o.data = x->o;
  args.k.data = x->k;
  args.v.data = x->v;
  args.lse.data = x->lse;
  args.scratch = x->scratch;
  args.scratch_bytes = scratch_bytes;
  return spindle_attention(x->plan, &args, NULL);
}

static void destroy(objects *x) {
  void *memory[] = {x->state, x->scratch, x->q, x->k, x->v, x->o, x->lse};
  for (size_t m = 0; x->context && m < sizeof memory / sizeof *memory; m++) spindle_free(x->context, memory[m]);
  spindle_plan_destroy(x->plan);
  spindle_positions_destroy(x->positions);
  spindle_context_destroy(x->context);
}

spindle_status test_tiny_run(const test_tiny *t, float *o, float *lse) {
  spindle_context_options options = {.struct_size = sizeof options, .backend = t->backend};
  spindle_shape shape = t->shape;
  shape.struct_size = sizeof shape;
  shape.q_dtype = SPINDLE_F32;
  if (!shape.num_kv_heads) shape.num_kv_heads = shape.num_q_heads;
  if (!shape.head_dim_v) shape.head_dim_v = shape.head_dim_qk;
  size_t lse_count = (size_t)t->q_len * (size_t)shape.num_q_heads, o_count = lse_count * (size_t)shape.head_dim_v;
  objects x;
  memset(&x, 0, sizeof x);
  spindle_status status = spindle_context_create(&x.context, &options);
  if (status == SPINDLE_OK) status = make(t, &shape, o_count, lse_count, &x);
  if (status == SPINDLE_OK) status = attend(t, &x);
  if (status == SPINDLE_OK && o) memcpy(o, x.o, o_count * sizeof(float));
  if (status == SPINDLE_OK && lse) memcpy(lse, x.lse, lse_count * sizeof(float));
  destroy(&x);
  return status;
}

spindle_status test_tiny_score(const test_tiny *t, int64_t i, int64_t j, float *score) {
  static const float value[8] = {0};
  test_tiny one = *t;
  one.shape.num_q_heads = one.shape.num_kv_heads = 1;
  one.shape.head_dim_qk = one.shape.head_dim_v = 8;
  one.q_len = one.kv_len = 1;
  one.q_index = i;
  one.kv_index = j;
  one.v = value;
  return test_tiny_run(&one, NULL, score);
}
