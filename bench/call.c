#include "call.h"

#include <stdlib.h>
#include <string.h>

#include "convert.h"
#include "output.h"

enum { ALIGNMENT = 16 };

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

bool tool_context_serves(spindle_context *context, const spindle_shape *shape) {
  spindle_plan_options bounds = {.struct_size = sizeof bounds, .max_requests = 1, .max_q_rows = 1, .max_kv_len = 1};
  spindle_plan *plan = NULL;
  bool served = spindle_plan_create(&plan, context, shape, &bounds) == SPINDLE_OK;
  spindle_plan_destroy(plan);
  return served;
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

/* Tensors of rows * heads vectors, padded or not. */
static bool load_vectors(tool_call *c, void *device, const float *data, int64_t vectors, int32_t dim) {
  int64_t stride = head_stride(c->shape.q_dtype, dim);
  size_t element = tool_dtype_bytes(c->shape.q_dtype), bytes = (size_t)(vectors * stride) * element;
  if (c->shape.q_dtype == SPINDLE_F32 && stride == dim)
    return check(spindle_copy(c->context, device, data, bytes, c->stream), "copy");
  char *staging = calloc(1, bytes ? bytes : 1);
  if (!staging) return tool_fail("no memory for a tensor of %zu bytes", bytes), false;
  for (int64_t r = 0; r < vectors; r++)
    tool_from_f32(c->shape.q_dtype, staging + (size_t)(r * stride) * element, data + r * dim, dim);
  bool good = check(spindle_copy(c->context, device, staging, bytes, c->stream), "copy");
  free(staging);
  return good;
}

static int64_t q_vectors(const tool_call *c) { return (int64_t)c->problem.requests * c->problem.q_len * c->shape.num_q_heads; }

static int64_t kv_vectors(const tool_call *c) { return (int64_t)c->problem.requests * c->problem.kv_len * c->shape.num_kv_heads; }

static bool take_tensors(tool_call *c) {
  spindle_attention_args *a = &c->args;
  size_t element = tool_dtype_bytes(c->shape.q_dtype);
  int32_t dtype = c->shape.q_dtype, o_dtype = c->shape.o_dtype;
  int64_t qk = head_stride(dtype, c->shape.head_dim_qk), v = head_stride(dtype, c->shape.head_dim_v);
  int64_t o = head_stride(o_dtype, c->shape.head_dim_v);
  /* The first buffers, in the order of TOOL_Q, TOOL_K, TOOL_V. */
  a->q.data = take_buffer(c, (size_t)(q_vectors(c) * qk) * element);
  a->k.data = take_buffer(c, (size_t)(kv_vectors(c) * qk) * element);
  a->v.data = take_buffer(c, (size_t)(kv_vectors(c) * v) * element);
  a->o.data = take_buffer(c, (size_t)(q_vectors(c) * o) * tool_dtype_bytes(o_dtype));
  a->lse.data = take_buffer(c, (size_t)q_vectors(c) * sizeof(float));
  a->q.head = a->k.head = qk;
  a->v.head = v;
  a->o.head = o;
  a->q_rows = (int64_t)c->problem.requests * c->problem.q_len;
  return a->q.data && a->k.data && a->v.data && a->o.data && a->lse.data;
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

static bool prepare(tool_call *c) {
  const tool_problem *p = &c->problem;
  size_t count = (size_t)p->requests, state_bytes;
  int32_t *lengths = malloc(3 * count * sizeof *lengths);
  int64_t *indices = malloc(3 * count * sizeof *indices);
  bool good = lengths && indices;
  for (int32_t r = 0; good && r < p->requests; r++) {
    lengths[r] = r * p->q_len;
    lengths[count + (size_t)r] = p->q_len;
    lengths[2 * count + (size_t)r] = p->kv_len;
    indices[r] = p->q_index;
    indices[count + (size_t)r] = p->kv_index;
    indices[2 * count + (size_t)r] = p->n;
  }
  const int32_t *i32 = good ? upload(c, lengths, 3 * count * sizeof *lengths) : NULL;
  const int64_t *i64 = good ? upload(c, indices, 3 * count * sizeof *indices) : NULL;
  free(lengths);
  free(indices);
  if (!good) return tool_fail("no memory for %d requests", p->requests), false;
  if (!i32 || !i64) return false;
  spindle_batch batch = {.struct_size = sizeof batch,
                         .max_requests = p->requests,
                         .dense_rows = p->kv_len,
                         .q_begin = i32,
                         .q_len = i32 + count,
                         .kv_len = i32 + 2 * count,
                         .q_index = i64,
                         .kv_index = i64 + count,
                         .n = i64 + 2 * count};
  if (!check(spindle_plan_workspace(c->plan, &state_bytes, &c->args.scratch_bytes), "plan")) return false;
  void *state = take_buffer(c, state_bytes);
  c->args.scratch = take_buffer(c, c->args.scratch_bytes);
  if ((state_bytes && !state) || (c->args.scratch_bytes && !c->args.scratch)) return false;
  return check(spindle_plan_prepare(c->plan, c->positions, &batch, state, state_bytes, c->stream), "prepare");
}

bool tool_call_open(tool_call *c, spindle_context *context, const tool_method *method, const spindle_shape *shape,
                    const tool_problem *problem, int32_t schedule) {
  memset(c, 0, sizeof *c);
  c->context = context;
  c->shape = *shape;
  c->problem = *problem;
  c->args.struct_size = sizeof c->args;
  spindle_plan_options bounds = {.struct_size = sizeof bounds,
                                 .max_requests = problem->requests,
                                 .max_q_rows = problem->requests * problem->q_len,
                                 .max_q_len = problem->q_len,
                                 .max_kv_len = problem->kv_len,
                                 .schedule = schedule};
  return check(spindle_stream_create(context, &c->stream), "streams") &&
         check(spindle_positions_create(&c->positions, context, shape, 1), "tensors") &&
         check(spindle_positions_set(c->positions, 0, &method->position, c->stream), "POSITION") &&
         check(spindle_plan_create(&c->plan, context, shape, &bounds), "tensors") && take_tensors(c) && take_weights(c, method) &&
         prepare(c);
}

bool tool_call_load(tool_call *c, int32_t tensor, const float *data) {
  void *device = tensor == TOOL_Q ? c->args.q.data : tensor == TOOL_K ? c->args.k.data : c->args.v.data;
  int64_t vectors = tensor == TOOL_Q ? q_vectors(c) : kv_vectors(c);
  int32_t dim = tensor == TOOL_V ? c->shape.head_dim_v : c->shape.head_dim_qk;
  return load_vectors(c, device, data, vectors, dim) && check(spindle_stream_sync(c->context, c->stream), "copy");
}

void tool_call_drop_inputs(tool_call *c) {
  spindle_stream_sync(c->context, c->stream); /* what it has to say, tool_call_fetch reports */
  for (int32_t b = TOOL_Q; b <= TOOL_V; b++) {
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
