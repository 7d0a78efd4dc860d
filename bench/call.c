#include "call.h"

#include <stdlib.h>
#include <string.h>

#include "convert.h"
#include "output.h"

enum { ALIGNMENT = 16, FILL_ELEMENTS = 1 << 20 };

const char *const tool_backend_names[] = {"auto", "cuda", "cpu", "reference", NULL};

bool tool_context_open(spindle_context **context, const char *name, int32_t num_threads) {
  spindle_context_options options = {.struct_size = sizeof options, .num_threads = num_threads};
  int backend = SPINDLE_BACKEND_AUTO;
  if (name && !tool_read_choice("--backend", name, tool_backend_names, &backend)) return false;
  options.backend = backend;
  if (spindle_context_create(context, &options) == SPINDLE_OK) return true;
  tool_fail("--backend: got '%s', %s; expected one that `spindle info` lists", name ? name : "auto", spindle_last_error());
  return false;
}

static bool check(spindle_status status, const char *what) { return status == SPINDLE_OK || (tool_fail_library(what), false); }

/* ---- Buffers ---- */

static void *take_buffer(tool_call *c, size_t bytes) {
  void *memory = NULL;
  if (!check(spindle_malloc(c->context, &memory, bytes), "memory")) return NULL;
  c->buffers[c->num_buffers++] = memory;
  return memory;
}

static void *upload(tool_call *c, const void *data, size_t bytes) {
  void *memory = take_buffer(c, bytes);
  return memory && check(spindle_copy(c->context, memory, data, bytes, c->stream), "copy") ? memory : NULL;
}

/* Heads begin at multiples of 16 bytes, as the library wants them, whatever their dim. */
static int64_t head_stride(int32_t dtype, int32_t dim) {
  int64_t step = ALIGNMENT / (int64_t)tool_dtype_bytes(dtype);
  return (dim + step - 1) / step * step;
}

/* ---- Tensors ---- */

/* Pages that hold a request of so many keys. */
static int64_t pages_of(const tool_problem *p, int32_t kv_len) { return (kv_len + p->page_size - 1) / p->page_size; }

static int32_t request_keys(const tool_problem *p, int32_t request) {
  return request > 0 && p->rest_len ? p->rest_len : p->kv_len;
}

static int64_t num_pages(const tool_problem *p) {
  return pages_of(p, p->kv_len) + (p->requests - 1) * pages_of(p, request_keys(p, 1));
}

static int64_t key_rows(const tool_problem *p) {
  return p->page_size ? num_pages(p) * p->page_size : (int64_t)p->requests * p->kv_len;
}

static int64_t q_vectors(const tool_call *c) { return (int64_t)c->problem.requests * c->problem.q_len * c->shape.num_q_heads; }

/* An input as vectors, one a row and head. */
typedef struct input {
  int32_t dtype, dim;
  int64_t vectors, stride;
} input;

static input input_of(const tool_call *c, int32_t tensor) {
  const spindle_shape *s = &c->shape;
  bool is_q = tensor == TOOL_Q;
  input in = {.dtype = is_q ? s->q_dtype : s->kv_dtype, .dim = tensor == TOOL_V ? s->head_dim_v : s->head_dim_qk};
  in.vectors = is_q ? q_vectors(c) : key_rows(&c->problem) * s->num_kv_heads;
  in.stride = head_stride(in.dtype, in.dim);
  return in;
}

int64_t tool_call_input_bytes(const tool_call *c, int32_t tensor) {
  input in = input_of(c, tensor);
  return in.vectors * in.stride * (int64_t)tool_dtype_bytes(in.dtype);
}

/* Its memory, from now on. */
static void *take_input(tool_call *c, int32_t tensor) {
  spindle_attention_args *a = &c->args;
  void *memory = c->buffers[tensor];
  if (!memory && !check(spindle_malloc(c->context, &memory, (size_t)tool_call_input_bytes(c, tensor)), "memory")) return NULL;
  c->buffers[tensor] = memory;
  *(tensor == TOOL_Q ? &a->q.data : tensor == TOOL_K ? &a->k.data : &a->v.data) = memory;
  return memory;
}

static int64_t output_bytes(const tool_call *c) {
  int64_t o = head_stride(c->shape.o_dtype, c->shape.head_dim_v) * (int64_t)tool_dtype_bytes(c->shape.o_dtype);
  return q_vectors(c) * (o + (int64_t)sizeof(float));
}

static bool take_outputs(tool_call *c) {
  spindle_attention_args *a = &c->args;
  a->o.head = head_stride(c->shape.o_dtype, c->shape.head_dim_v);
  a->o.data = take_buffer(c, (size_t)(q_vectors(c) * a->o.head) * tool_dtype_bytes(c->shape.o_dtype));
  a->lse.data = take_buffer(c, (size_t)q_vectors(c) * sizeof(float));
  a->q.head = input_of(c, TOOL_Q).stride;
  a->k.head = input_of(c, TOOL_K).stride;
  a->v.head = input_of(c, TOOL_V).stride;
  a->q_rows = (int64_t)c->problem.requests * c->problem.q_len;
  return a->o.data && a->lse.data;
}

bool tool_call_load(tool_call *c, int32_t tensor, const float *data) {
  input in = input_of(c, tensor);
  size_t element = tool_dtype_bytes(in.dtype), bytes = (size_t)(in.vectors * in.stride) * element;
  char *memory = take_input(c, tensor), *staging = NULL;
  if (!memory) return false;
  const void *source = data;
  if (in.dtype != SPINDLE_F32 || in.stride != in.dim) {
    source = staging = calloc(1, bytes ? bytes : 1);
    if (!staging) return tool_fail("no memory for a tensor of %zu bytes", bytes), false;
    for (int64_t r = 0; r < in.vectors; r++)
      tool_from_f32(in.dtype, staging + (size_t)(r * in.stride) * element, data + r * in.dim, in.dim);
  }
  bool good = check(spindle_copy(c->context, memory, source, bytes, c->stream), "copy");
  free(staging);
  return good && check(spindle_stream_sync(c->context, c->stream), "copy");
}

/* Each copy doubles what is there. */
static bool spread(tool_call *c, char *memory, int64_t there, int64_t bytes) {
  for (int64_t n; there < bytes; there += n) {
    n = there < bytes - there ? there : bytes - there;
    if (!check(spindle_copy(c->context, memory + there, memory, (size_t)n, c->stream), "copy")) return false;
  }
  return check(spindle_stream_sync(c->context, c->stream), "copy");
}

bool tool_call_fill(tool_call *c, int32_t tensor, tool_random *random) {
  input in = input_of(c, tensor);
  int64_t element = (int64_t)tool_dtype_bytes(in.dtype), all = in.vectors * in.stride;
  int64_t block = all < FILL_ELEMENTS ? all : FILL_ELEMENTS;
  float *values = malloc((size_t)block * sizeof *values);
  void *rounded = malloc((size_t)(block * element)), *memory = take_input(c, tensor);
  bool good = memory && values && rounded;
  if (memory && !good) tool_fail("no memory for %lld elements", (long long)block);
  if (good) {
    tool_random_fill(random, values, block, 1);
    tool_from_f32(in.dtype, rounded, values, block);
    good = check(spindle_copy(c->context, memory, rounded, (size_t)(block * element), c->stream), "copy") &&
           spread(c, memory, block * element, all * element);
  }
  free(rounded);
  free(values);
  return good;
}

static bool take_weights(tool_call *c, const tool_method *method) {
  size_t bytes = (size_t)c->shape.num_q_heads * sizeof(float);
  tool_weights w;
  if (!tool_method_weights(method, c->shape.num_q_heads, &w)) return false;
  const float *const from[] = {w.bias_a, w.bias_p, w.sinks, w.ssmax};
  const float **const to[] = {&c->args.bias_a, &c->args.bias_p, &c->args.sink_logits, &c->args.row_scale_s};
  bool good = true;
  for (int k = 0; k < 4; k++)
    if (from[k]) good = good && (*to[k] = upload(c, from[k], bytes)) != NULL;
  tool_weights_free(&w);
  c->args.scale = (float)method->scale;
  c->args.softcap = (float)method->softcap;
  return good;
}

/* ---- Plan ---- */

/* The arrays of a batch as one upload each: so many of them, [requests]. */
enum { NUM_INDICES = 3, NUM_LENGTHS = 4 };

/* Every page of the pool once, in no order: the factor is a prime larger than any pool. */
static bool take_pages(tool_call *c, spindle_batch *batch) {
  int64_t count = num_pages(&c->problem);
  int32_t *pages = malloc((size_t)count * sizeof *pages);
  if (!pages) return tool_fail("no memory for %lld pages", (long long)count), false;
  for (int64_t e = 0; e < count; e++) pages[e] = (int32_t)(e * 2654435761 % count);
  batch->pages = upload(c, pages, (size_t)count * sizeof *pages);
  batch->page_size = c->problem.page_size;
  batch->num_pages = (int32_t)count;
  free(pages);
  return batch->pages;
}

static bool fill_batch(tool_call *c, spindle_batch *batch) {
  const tool_problem *p = &c->problem;
  size_t count = (size_t)p->requests;
  int32_t *lengths = malloc((NUM_LENGTHS * count + 1) * sizeof *lengths);
  int64_t *indices = malloc(NUM_INDICES * count * sizeof *indices), page = 0;
  bool good = lengths && indices;
  if (!good) tool_fail("no memory for %d requests", p->requests);
  for (int32_t r = 0; good && r < p->requests; r++) {
    int32_t keys = request_keys(p, r), missing = p->kv_len - keys;
    lengths[r] = r * p->q_len;
    lengths[count + (size_t)r] = p->q_len;
    lengths[2 * count + (size_t)r] = keys;
    lengths[3 * count + (size_t)r] = (int32_t)page;
    indices[r] = p->q_index - missing;
    indices[count + (size_t)r] = p->kv_index;
    indices[2 * count + (size_t)r] = p->n - missing;
    if (p->page_size) page += pages_of(p, keys);
  }
  if (good) lengths[NUM_LENGTHS * count] = (int32_t)page;
  const int32_t *i32 = good ? upload(c, lengths, (NUM_LENGTHS * count + 1) * sizeof *lengths) : NULL;
  const int64_t *i64 = good ? upload(c, indices, NUM_INDICES * count * sizeof *indices) : NULL;
  free(lengths);
  free(indices);
  if (!i32 || !i64) return false;
  *batch = (spindle_batch){.struct_size = sizeof *batch,
                           .max_requests = p->requests,
                           .dense_rows = p->page_size ? 0 : p->kv_len,
                           .q_begin = i32,
                           .q_len = i32 + count,
                           .kv_len = i32 + 2 * count,
                           .table_begin = p->page_size ? i32 + 3 * count : NULL,
                           .q_index = i64,
                           .kv_index = i64 + count,
                           .n = i64 + 2 * count};
  return !p->page_size || take_pages(c, batch);
}

static bool prepare(tool_call *c) {
  size_t state_bytes;
  spindle_batch batch;
  if (!fill_batch(c, &batch) || !check(spindle_plan_workspace(c->plan, &state_bytes, &c->args.scratch_bytes), "plan"))
    return false;
  void *state = take_buffer(c, state_bytes);
  c->args.scratch = take_buffer(c, c->args.scratch_bytes);
  if ((state_bytes && !state) || (c->args.scratch_bytes && !c->args.scratch)) return false;
  return check(spindle_plan_prepare(c->plan, c->positions, &batch, state, state_bytes, c->stream), "prepare");
}

static spindle_plan_options bounds_of(const tool_problem *p, int32_t schedule) {
  return (spindle_plan_options){.struct_size = sizeof(spindle_plan_options),
                                .max_requests = p->requests,
                                .max_q_rows = p->requests * p->q_len,
                                .max_q_len = p->q_len,
                                .page_size = p->page_size,
                                .max_kv_len = p->kv_len,
                                .schedule = schedule};
}

spindle_status tool_call_needs(spindle_context *context, const spindle_shape *shape, const tool_problem *problem,
                               int32_t schedule, int64_t *bytes) {
  spindle_plan_options bounds = bounds_of(problem, schedule);
  spindle_plan *plan = NULL;
  tool_call call = {.shape = *shape, .problem = *problem};
  size_t state_bytes = 0, scratch_bytes = 0;
  spindle_status status = spindle_plan_create(&plan, context, shape, &bounds);
  if (status == SPINDLE_OK) status = spindle_plan_workspace(plan, &state_bytes, &scratch_bytes);
  spindle_plan_destroy(plan);
  *bytes = output_bytes(&call) + (int64_t)(state_bytes + scratch_bytes);
  return status;
}

spindle_status tool_context_serves(spindle_context *context, const spindle_shape *shape) {
  const tool_problem least = {.requests = 1, .q_len = 1, .kv_len = 1, .n = 1};
  int64_t bytes;
  return tool_call_needs(context, shape, &least, SPINDLE_SCHEDULE_AUTO, &bytes);
}

bool tool_call_open(tool_call *c, spindle_context *context, const tool_method *method, const spindle_shape *shape,
                    const tool_problem *problem, int32_t schedule) {
  spindle_plan_options bounds = bounds_of(problem, schedule);
  memset(c, 0, sizeof *c);
  c->context = context;
  c->shape = *shape;
  c->problem = *problem;
  c->num_buffers = TOOL_NUM_INPUTS; /* the first are theirs */
  c->args.struct_size = sizeof c->args;
  return check(spindle_stream_create(context, &c->stream), "streams") &&
         check(spindle_positions_create(&c->positions, context, shape, 1), "tensors") &&
         check(spindle_positions_set(c->positions, 0, &method->position, c->stream), "POSITION") &&
         check(spindle_plan_create(&c->plan, context, shape, &bounds), "tensors") && take_outputs(c) && take_weights(c, method) &&
         prepare(c);
}

void tool_call_drop_inputs(tool_call *c) {
  spindle_stream_sync(c->context, c->stream); /* what it has to say, tool_call_fetch reports */
  for (int32_t b = 0; b < TOOL_NUM_INPUTS; b++) {
    spindle_free(c->context, c->buffers[b]);
    c->buffers[b] = NULL;
  }
}

void tool_call_borrow(tool_call *c, const tool_call *other) {
  c->args.q = other->args.q;
  c->args.k = other->args.k;
  c->args.v = other->args.v;
}

bool tool_call_run(tool_call *c) { return check(spindle_attention(c->plan, &c->args, c->stream), "attention"); }

bool tool_call_fetch(tool_call *c, float *o, float *lse) {
  int32_t dtype = c->shape.o_dtype;
  int64_t stride = head_stride(dtype, c->shape.head_dim_v), vectors = q_vectors(c);
  size_t element = tool_dtype_bytes(dtype), bytes = (size_t)(vectors * stride) * element;
  if (!check(spindle_stream_sync(c->context, c->stream), "attention")) return false;
  if (lse && !check(spindle_copy(c->context, lse, c->args.lse.data, (size_t)vectors * sizeof *lse, c->stream), "copy"))
    return false;
  if (o && dtype == SPINDLE_F32 && stride == c->shape.head_dim_v)
    return check(spindle_copy(c->context, o, c->args.o.data, bytes, c->stream), "copy");
  char *staging = malloc(bytes ? bytes : 1);
  bool good = staging && check(spindle_copy(c->context, staging, c->args.o.data, bytes, c->stream), "copy");
  if (!staging) tool_fail("no memory for a tensor of %zu bytes", bytes);
  for (int64_t r = 0; good && o && r < vectors; r++)
    tool_to_f32(dtype, o + r * c->shape.head_dim_v, staging + (size_t)(r * stride) * element, c->shape.head_dim_v);
  free(staging);
  return good;
}

void tool_call_close(tool_call *c) {
  if (!c->context) return;
  spindle_stream_sync(c->context, c->stream);
  for (int32_t b = 0; b < c->num_buffers; b++) spindle_free(c->context, c->buffers[b]);
  spindle_plan_destroy(c->plan);
  spindle_positions_destroy(c->positions);
  spindle_stream_destroy(c->context, c->stream);
  memset(c, 0, sizeof *c);
}
