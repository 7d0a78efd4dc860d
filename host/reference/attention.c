/* Attention from its definition: for every row, head and key a score; over the keys a softmax in float64.
 *
 * Rows are taken in blocks, so that a key is converted to float64 once a block, and cos and sin of a difference of positions are
 * kept for all heads and the rows that follow: neither changes a result. All memory comes from the caller's scratch. */
#include "reference.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { BLOCK_STATES = 256 /* rows x heads */, CACHED_ROTATIONS = 4096 /* a power of two */ };

/* ---- Rotations ---- */

/* What multiplies pair t's complex product conj(k) q: A^2 (or A) * decay * (cos, sin). */
typedef struct {
  spindle__ref_offset offset;
  int64_t dist; /* where the rule decays with it, else 0 */
  bool valid;
} rotation_tag;

typedef struct {
  rotation_tag *tags;
  double *values; /* [CACHED_ROTATIONS][2][num_pairs]: cosines, sines */
} rotation_cache;

static const double *rotation(rotation_cache *cache, const spindle__ref_rope *rope, double factor, spindle__ref_offset offset,
                              int64_t dist) {
  rotation_tag wanted = {offset, rope->decays ? dist : 0, true};
  double whole = floor(offset.hi);
  uint64_t hash = (uint64_t)(int64_t)whole + (uint64_t)((offset.hi - whole) * CACHED_ROTATIONS) + (uint64_t)wanted.dist;
  int64_t entry = (int64_t)(hash % CACHED_ROTATIONS);
  rotation_tag *tag = &cache->tags[entry];
  double *c = cache->values + entry * 2 * rope->num_pairs, *s = c + rope->num_pairs;
  if (tag->valid && tag->offset.hi == offset.hi && tag->offset.lo == offset.lo && tag->dist == wanted.dist) return c;
  for (int32_t t = 0; t < rope->num_pairs; t++) {
    spindle__ref_cos_sin(offset, rope->w[t], &c[t], &s[t]);
    double magnitude = rope->decays ? factor * exp(rope->log_decay[t] * (double)dist) : factor;
    c[t] *= magnitude;
    s[t] *= magnitude;
  }
  *tag = wanted;
  return c;
}

/* ---- One call ---- */

/* Running softmax of one row and head: largest score so far, sum of exp(score - largest), and the same sum of values. */
typedef struct {
  double largest, sum;
} softmax_state;

typedef struct {
  const spindle_plan *plan;
  const spindle_attention_args *args;
  const spindle__ref_request *prepared;
  int32_t number; /* of the request */
  spindle__ref_channels channels;
} call;

/* One thread's part of the scratch. Rows of q, k: first channels of the pairs, second ones, plain channels. */
typedef struct {
  rotation_cache rotations;
  softmax_state *states;  /* [block rows][Hq] */
  double *q, *values_sum; /* [block rows][Hq][head_dim_qk], [block rows][Hq][head_dim_v] */
  double *k, *v;          /* one key: [Hkv][head_dim_qk], [Hkv][head_dim_v] */
} workspace;

static int32_t block_rows(const spindle_shape *shape) {
  return shape->num_q_heads < BLOCK_STATES ? BLOCK_STATES / shape->num_q_heads : 1;
}

static size_t block_states(const spindle_shape *shape) { return (size_t)block_rows(shape) * (size_t)shape->num_q_heads; }

static size_t thread_bytes(const spindle_shape *shape) {
  size_t states = block_states(shape), vectors = states + (size_t)shape->num_kv_heads;
  size_t rotations = CACHED_ROTATIONS * (sizeof(rotation_tag) + sizeof(double) * (size_t)shape->rotary_dim);
  size_t dims = (size_t)shape->head_dim_qk + (size_t)shape->head_dim_v;
  return (rotations + states * sizeof(softmax_state) + vectors * dims * sizeof(double) + 255) / 256 * 256;
}

size_t spindle__ref_scratch_bytes(const spindle_plan *plan) {
  return (size_t)plan->context->num_threads * thread_bytes(&plan->shape);
}

static workspace workspace_of(const call *c, int32_t thread) {
  const spindle_shape *shape = &c->plan->shape;
  size_t states = block_states(shape);
  workspace w;
  w.rotations.tags = (rotation_tag *)((char *)c->args->scratch + (size_t)thread * thread_bytes(shape));
  w.rotations.values = (double *)(w.rotations.tags + CACHED_ROTATIONS);
  w.states = (softmax_state *)(w.rotations.values + (size_t)CACHED_ROTATIONS * (size_t)shape->rotary_dim);
  w.q = (double *)(w.states + states);
  w.values_sum = w.q + states * (size_t)shape->head_dim_qk;
  w.k = w.values_sum + states * (size_t)shape->head_dim_v;
  w.v = w.k + (size_t)shape->num_kv_heads * (size_t)shape->head_dim_qk;
  memset(w.rotations.tags, 0, CACHED_ROTATIONS * sizeof(rotation_tag));
  return w;
}

static int64_t row_offset(const spindle_rows *rows, const call *c, int64_t row, int32_t head) {
  return c->number * rows->batch + (c->prepared->request.q_begin + row) * rows->row + head * rows->head;
}

static void load_channels(const spindle__ref_channels *channels, int32_t dtype, const void *data, int64_t at, double scale,
                          double *x) {
  int32_t pairs = channels->num_pairs;
  for (int32_t t = 0; t < pairs; t++) {
    x[t] = scale * spindle__ref_load(dtype, data, at + channels->first[t]);
    x[pairs + t] = scale * spindle__ref_load(dtype, data, at + channels->second[t]);
  }
  for (int32_t c = 0; c < channels->num_plain; c++)
    x[2 * pairs + c] = scale * spindle__ref_load(dtype, data, at + channels->plain[c]);
}

static double cache_scale(const spindle_cache *cache, int32_t kv_head) {
  return cache->scale ? cache->scale[kv_head * cache->scale_head] : 1.0;
}

static void load_key(const call *c, const spindle__ref_key *key, workspace *w) {
  const spindle_shape *shape = &c->plan->shape;
  const spindle_cache *k = &c->args->k, *v = &c->args->v;
  for (int32_t h = 0; h < shape->num_kv_heads; h++) {
    int64_t at = key->page * k->page + key->row * k->row + h * k->head;
    load_channels(&c->channels, shape->kv_dtype, k->data, at, cache_scale(k, h), w->k + h * shape->head_dim_qk);
    at = key->page * v->page + key->row * v->row + h * v->head;
    for (int32_t e = 0; e < shape->head_dim_v; e++)
      w->v[h * shape->head_dim_v + e] = cache_scale(v, h) * spindle__ref_load(shape->kv_dtype, v->data, at + e);
  }
}

/* ---- Scores ---- */

static double row_scale(const call *c, int64_t i, int32_t head) {
  const spindle_position *p = &c->prepared->position;
  double index = (double)i, length = p->row_scale_length;
  switch (p->row_scale) {
    case SPINDLE_ROWSCALE_LOGN: return fmax(1.0, log(index + 1) / log(length));
    case SPINDLE_ROWSCALE_LLAMA4: return 1 + p->row_scale_beta * log(1 + floor((index + 1) / length));
    case SPINDLE_ROWSCALE_MINISTRAL: return 1 + p->row_scale_beta * log(1 + floor(index / length));
    case SPINDLE_ROWSCALE_SSMAX: {
      double seen = p->not_causal ? (double)c->prepared->request.n : index + 1;
      return c->args->row_scale_s[head] * log(seen) + (c->args->row_scale_b ? c->args->row_scale_b[head] : 0.0);
    }
    default: return 1;
  }
}

static double bias(const call *c, int64_t dist, int32_t head) {
  double size = fabs((double)dist);
  switch (c->plan->shape.bias) {
    case SPINDLE_BIAS_ALIBI: return -c->args->bias_a[head] * size;
    case SPINDLE_BIAS_KERPLE_LOG: return -c->args->bias_p[head] * log(1 + c->args->bias_a[head] * size);
    case SPINDLE_BIAS_KERPLE_POWER: return size == 0 ? 0.0 : -c->args->bias_a[head] * pow(size, c->args->bias_p[head]);
    default: return 0;
  }
}

/* Re(q conj(k) e^(i angle)), summed over the pairs, plus the product of the plain channels. */
static double product(const spindle__ref_channels *channels, const double *q, const double *k, const double *cosines) {
  int32_t pairs = channels->num_pairs, plain = channels->num_plain;
  const double *sines = cosines + pairs;
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int32_t t = 0; t < pairs; t++) {
    double re = q[t] * k[t] + q[pairs + t] * k[pairs + t], im = q[pairs + t] * k[t] - q[t] * k[pairs + t];
    sum += re * cosines[t] - im * sines[t];
  }
#pragma omp simd reduction(+ : sum)
  for (int32_t c = 2 * pairs; c < 2 * pairs + plain; c++) sum += q[c] * k[c];
  return sum;
}

/* What turns the product of row i and key j, `relative` apart. */
static const double *pair_rotation(const call *c, workspace *w, spindle__ref_offset relative, int64_t i, int64_t j) {
  const spindle__ref_rope *rope = &c->prepared->rope;
  double factor = rope->attention_factor * rope->attention_factor;
  if (c->plan->shape.key_state == SPINDLE_KEYS_ROTATED) {
    /* The key came turned by its index j and times A; what is left is the query's own position and A. */
    factor = rope->attention_factor;
    relative.hi += (double)j;
  }
  return rotation(&w->rotations, rope, factor, relative, i - j);
}

static double score(const call *c, const double *q, const double *k, const double *cosines, int64_t i, int64_t j, int32_t head) {
  double x = product(&c->channels, q, k, cosines);
  x *= row_scale(c, i, head) * c->args->scale * c->prepared->rope.softmax_scale_factor;
  if (c->args->softcap > 0) x = c->args->softcap * tanh(x / c->args->softcap);
  return x + bias(c, i - j, head);
}

/* ---- Softmax ---- */

static void add_key(softmax_state *state, double x, const double *v, int32_t dims, double *values_sum) {
  if (x == -INFINITY) return; /* weighs nothing, and -inf - -inf would be NaN */
  if (x > state->largest) {
    double shrink = exp(state->largest - x);
    state->largest = x;
    state->sum *= shrink;
    for (int32_t e = 0; e < dims; e++) values_sum[e] *= shrink;
  }
  double weight = exp(x - state->largest);
  state->sum += weight;
  for (int32_t e = 0; e < dims; e++) values_sum[e] += weight * v[e];
}

/* ---- Blocks of rows ---- */

/* Rows [begin, end) of the request. State number s belongs to row begin + s / Hq and head s % Hq. */
typedef struct {
  int64_t begin, end;
} block;

static void begin_block(const call *c, const block *b, workspace *w) {
  const spindle_shape *shape = &c->plan->shape;
  const spindle_rows *q = &c->args->q;
  bool with_sinks = c->args->sink_logits && !c->plan->options.partial;
  for (int64_t s = 0; s < (b->end - b->begin) * shape->num_q_heads; s++) {
    int32_t head = (int32_t)(s % shape->num_q_heads);
    double sink = with_sinks ? c->args->sink_logits[head] : -INFINITY;
    /* A sink is a key without a value. */
    w->states[s] = (softmax_state){sink, sink == -INFINITY ? 0 : 1};
    for (int32_t e = 0; e < shape->head_dim_v; e++) w->values_sum[s * shape->head_dim_v + e] = 0;
    int64_t at = row_offset(q, c, b->begin + s / shape->num_q_heads, head);
    load_channels(&c->channels, shape->q_dtype, q->data, at, 1, w->q + s * shape->head_dim_qk);
  }
}

/* Row `row` of the request and heads [first, end), which see key j at the same difference. */
static void score_heads(const call *c, const block *b, int64_t row, int64_t j, const double *cosines, int32_t first, int32_t end,
                        workspace *w) {
  const spindle_shape *shape = &c->plan->shape;
  for (int32_t head = first; head < end; head++) {
    int64_t s = (row - b->begin) * shape->num_q_heads + head;
    int32_t kv_head = head / (shape->num_q_heads / shape->num_kv_heads);
    const double *q = w->q + s * shape->head_dim_qk, *k = w->k + kv_head * shape->head_dim_qk;
    double x = score(c, q, k, cosines, c->prepared->request.q_index + row, j, head);
    add_key(&w->states[s], x, w->v + kv_head * shape->head_dim_v, shape->head_dim_v, w->values_sum + s * shape->head_dim_v);
  }
}

static void visit_key(const call *c, const block *b, const spindle__ref_key *key, workspace *w) {
  int32_t heads = c->plan->shape.num_q_heads;
  if (key->index < 0 || key->index >= SPINDLE__MAX_INDEX) return; /* a page table that holds no index */
  bool loaded = false; /* a key that no row sees is never read: its storage may hold anything */
  for (int64_t row = b->begin; row < b->end; row++)
    for (int shifted = 0; shifted < 2; shifted++) {
      const spindle__request *request = &c->prepared->request;
      int64_t i = request->q_index + row;
      spindle__ref_offset relative;
      if (!spindle__ref_relative(&c->prepared->position, shifted, request->n, i, key->index, &relative)) continue;
      if (!loaded) load_key(c, key, w);
      loaded = true;
      const double *cosines = pair_rotation(c, w, relative, i, key->index);
      score_heads(c, b, row, key->index, cosines, shifted ? heads / 2 : 0, shifted ? heads : heads / 2, w);
    }
}

static void end_block(const call *c, const block *b, const workspace *w) {
  const spindle_attention_args *args = c->args;
  int32_t dims = c->plan->shape.head_dim_v, heads = c->plan->shape.num_q_heads;
  for (int64_t s = 0; s < (b->end - b->begin) * heads; s++) {
    softmax_state state = w->states[s];
    int64_t row = b->begin + s / heads;
    int32_t head = (int32_t)(s % heads);
    int64_t at = row_offset(&args->o, c, row, head);
    for (int32_t e = 0; e < dims; e++) {
      double o = state.sum == 0 ? 0 : w->values_sum[s * dims + e] / state.sum;
      spindle__ref_store(c->plan->shape.o_dtype, args->o.data, at + e, o);
    }
    if (!args->lse.data) continue;
    const spindle_lse *lse = &args->lse;
    at = c->number * lse->batch + (c->prepared->request.q_begin + row) * lse->row + head * lse->head;
    lse->data[at] = state.sum == 0 ? -INFINITY : (float)(state.largest + log(state.sum));
  }
}

static void attend(const call *c, const block *b, workspace *w) {
  begin_block(c, b, w);
  spindle__ref_keys keys = spindle__ref_keys_of(&c->plan->batch, &c->prepared->request, c->number);
  spindle__ref_key key;
  while (spindle__ref_next_key(&keys, &key)) visit_key(c, b, &key, w);
  end_block(c, b, w);
}

/* The blocks of one request that fall to this thread. */
static void attend_request(const call *c) {
  const spindle__request *request = &c->prepared->request;
  int64_t room = c->args->q_rows - request->q_begin; /* the plan's bound may exceed these tensors */
  int64_t rows = request->q_len < room ? request->q_len : room, step = block_rows(&c->plan->shape);
  workspace w = workspace_of(c, omp_get_thread_num());
#pragma omp for schedule(dynamic) nowait
  for (int64_t begin = 0; begin < rows; begin += step) {
    block b = {begin, begin + step < rows ? begin + step : rows};
    attend(c, &b, &w);
  }
}

spindle_status spindle__ref_attention(const spindle_plan *plan, const spindle_attention_args *args, spindle_stream stream) {
  (void)stream;
  const spindle__ref_request *prepared = plan->state;
#pragma omp parallel num_threads(plan->context->num_threads)
  for (int32_t r = 0; r < plan->batch.max_requests; r++) {
    call c = {
        .plan = plan, .args = args, .prepared = &prepared[r], .number = r, .channels = spindle__ref_channels_of(&plan->shape)};
    attend_request(&c);
  }
  return SPINDLE_OK;
}
