/* Every call of Spindle that a server makes.
 *
 *   once       context, position table, plan, workspaces, and a pool of pages for each layer
 *   admission  spindle_positions_set: the request's rule goes to its slot
 *   a step     one copy, then spindle_plan_prepare reads lengths, tables and slots on the device and schedules the work
 *   a layer    spindle_append and spindle_attention
 *
 * Keys are cached as the projection made them, so none of these calls tells the cache where in a text a key stands. */
#include <string.h>

#include "server.h"

static void *device_memory(engine *e, size_t bytes) {
  void *memory;
  TRY(spindle_malloc(e->context, &memory, bytes));
  return memory;
}

static size_t row_bytes(int32_t dtype, int32_t heads) { return (size_t)heads * DIM * dtype_bytes(dtype); }

/* A pool need not be cleared: what no table names reaches no result. NaN everywhere puts that to the proof. */
static void *cache_of_nan(engine *e) {
  size_t bytes = (size_t)(e->page_size ? POOL * PAGE : SEATS * MAX_KEYS) * row_bytes(e->shape.kv_dtype, KV_HEADS);
  void *nan = malloc(bytes), *cache = device_memory(e, bytes);
  if (!nan) abort();
  memset(nan, 0xff, bytes);
  TRY(spindle_copy(e->context, cache, nan, bytes, e->stream));
  free(nan);
  return cache;
}

void engine_create(engine *e, int32_t backend, int32_t dtype, int32_t o_dtype, int32_t page_size) {
  *e = (engine){.page_size = page_size};
  e->shape = (spindle_shape){.struct_size = sizeof e->shape,
                             .q_dtype = dtype,
                             .kv_dtype = dtype,
                             .o_dtype = o_dtype,
                             .num_q_heads = HEADS,
                             .num_kv_heads = KV_HEADS,
                             .head_dim_qk = DIM};
  spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
  /* Bounds, not lengths: the plan serves every step. */
  spindle_plan_options bounds = {.struct_size = sizeof bounds,
                                 .max_requests = SEATS,
                                 .max_q_rows = MAX_ROWS,
                                 .page_size = page_size,
                                 .max_kv_len = MAX_KEYS,
                                 .remap_set = 1u << SPINDLE_REMAP_NONE | 1u << SPINDLE_REMAP_REROPE,
                                 .row_scale_set = 1u << SPINDLE_ROWSCALE_NONE};
  TRY(spindle_context_create(&e->context, &options));
  TRY(spindle_stream_create(e->context, &e->stream));
  TRY(spindle_positions_create(&e->positions, e->context, &e->shape, SEATS));
  TRY(spindle_plan_create(&e->plan, e->context, &e->shape, &bounds));
  TRY(spindle_plan_workspace(e->plan, &e->state_bytes, &e->scratch_bytes));
  e->state = device_memory(e, e->state_bytes);
  e->scratch = device_memory(e, e->scratch_bytes);
  for (int32_t layer = 0; layer < LAYERS; layer++) {
    e->k[layer] = cache_of_nan(e);
    e->v[layer] = cache_of_nan(e);
  }
  e->q = device_memory(e, MAX_ROWS * row_bytes(dtype, HEADS));
  e->k_new = device_memory(e, MAX_ROWS * row_bytes(dtype, KV_HEADS));
  e->v_new = device_memory(e, MAX_ROWS * row_bytes(dtype, KV_HEADS));
  e->o = device_memory(e, MAX_ROWS * row_bytes(o_dtype, HEADS));
  e->step = device_memory(e, sizeof *e->step);
  e->staging = malloc(MAX_ROWS * row_bytes(SPINDLE_F32, HEADS));
  if (!e->staging) abort();
}

void engine_destroy(engine *e) {
  void *memory[] = {e->state, e->scratch, e->q, e->k_new, e->v_new, e->o, e->step};
  for (size_t m = 0; m < sizeof memory / sizeof *memory; m++) spindle_free(e->context, memory[m]);
  for (int32_t layer = 0; layer < LAYERS; layer++) {
    spindle_free(e->context, e->k[layer]);
    spindle_free(e->context, e->v[layer]);
  }
  spindle_plan_destroy(e->plan);
  spindle_positions_destroy(e->positions);
  spindle_stream_destroy(e->context, e->stream);
  spindle_context_destroy(e->context);
  free(e->staging);
}

void engine_admit(engine *e, int32_t seat, const spindle_position *position) {
  TRY(spindle_positions_set(e->positions, seat, position, e->stream));
}

void engine_prepare(engine *e, const step *s) {
  const step *d = e->step; /* on the device: only addresses are taken from it */
  spindle_batch batch = {.struct_size = sizeof batch,
                         .max_requests = SEATS,
                         .q_begin = d->q_begin,
                         .q_len = d->q_len,
                         .kv_len = d->kv_len,
                         .q_index = d->q_index,
                         .n = d->n,
                         .position = d->position};
  if (e->page_size) {
    batch.page_size = PAGE;
    batch.num_pages = POOL;
    batch.pages = d->pages[0];
    batch.page_index = d->page_index[0];
    batch.page_span = d->page_span[0];
    batch.table_stride = ENTRIES;
  }
  TRY(spindle_copy(e->context, e->step, s, sizeof *s, e->stream));
  TRY(spindle_batch_check(e->plan, e->positions, &batch, e->stream)); /* synchronises: for debugging, and for examples */
  TRY(spindle_plan_prepare(e->plan, e->positions, &batch, e->state, e->state_bytes, e->stream));
}

/* In a server the model's projections write this device memory. */
static void project_rows(engine *e, int32_t layer, int32_t what, const step *s, void *to) {
  project(e->shape.q_dtype, layer, what, s->token, s->rows, e->staging);
  size_t bytes = (size_t)s->rows * row_bytes(e->shape.q_dtype, what == QUERY ? HEADS : KV_HEADS);
  TRY(spindle_copy(e->context, to, e->staging, bytes, e->stream));
}

void engine_append(engine *e, int32_t layer, const step *s) {
  project_rows(e, layer, KEY, s, e->k_new);
  project_rows(e, layer, VALUE, s, e->v_new);
  spindle_append_args args = {.struct_size = sizeof args,
                              .rows = s->rows,
                              .page_size = PAGE,
                              .num_pages = POOL,
                              .k_new = {.data = e->k_new},
                              .v_new = {.data = e->v_new},
                              .k = {.data = e->k[layer]},
                              .v = {.data = e->v[layer]},
                              .slot = e->step->slot};
  TRY(spindle_append(e->context, &e->shape, NULL, &args, e->stream)); /* raw keys: no positions */
}

void engine_attend(engine *e, int32_t layer, const step *s, float *o) {
  project_rows(e, layer, QUERY, s, e->q);
  spindle_attention_args args = {.struct_size = sizeof args,
                                 .q_rows = s->rows,
                                 .q = {.data = e->q},
                                 .o = {.data = e->o},
                                 .k = {.data = e->k[layer]},
                                 .v = {.data = e->v[layer]},
                                 .scratch = e->scratch,
                                 .scratch_bytes = e->scratch_bytes};
  TRY(spindle_attention(e->plan, &args, e->stream));
  TRY(spindle_copy(e->context, e->staging, e->o, (size_t)s->rows * row_bytes(e->shape.o_dtype, HEADS), e->stream));
  to_floats(e->shape.o_dtype, e->staging, (size_t)s->rows * HEADS * DIM, o);
}
