/* One request over eight ranks, each with a share of the keys: dealt out in blocks of tokens, so that causal work is even, or in
 * contiguous slices. Every rank computes all rows over its own keys; then gather LSE, spindle_combine_scale, sum        what a
 * reduce-scatter does, or spindle_combine, one arriving part at a time  what a ring does. Here the ranks take turns in one
 * process. Exit 0 if both give what one rank with all keys gives. */
#include <math.h>
#include <spindle/spindle.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 8, BLOCK = 16, KEYS = 1000, ROWS = 40, HEADS = 4, KV_HEADS = 2, DIM = 32, SLICE = (KEYS + RANKS - 1) / RANKS };
enum { O_COUNT = ROWS * HEADS * DIM, LSE_COUNT = ROWS * HEADS, KEY = KV_HEADS * DIM };

#define TRY(call)                                                               \
  do {                                                                          \
    if ((call) != SPINDLE_OK) {                                                 \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, spindle_last_error()); \
      exit(1);                                                                  \
    }                                                                           \
  } while (0)

typedef struct model {
  spindle_context *context;
  spindle_shape shape;
  spindle_positions *positions;
  float *q, *k, *v, *sinks; /* the whole text */
} model;

static float *device(model *m, size_t count) {
  void *memory;
  TRY(spindle_malloc(m->context, &memory, count * sizeof(float)));
  return memory;
}

static model make_model(void) {
  model m = {.shape = {.struct_size = sizeof m.shape,
                       .q_dtype = SPINDLE_F32,
                       .num_q_heads = HEADS,
                       .num_kv_heads = KV_HEADS,
                       .head_dim_qk = DIM}};
  spindle_position p = {.struct_size = sizeof p,
                        .rope = SPINDLE_ROPE_LLAMA3,
                        .factor = 8,
                        .original_max_position_embeddings = 256,
                        .rope_theta = 500000};
  TRY(spindle_context_create(&m.context, NULL));
  TRY(spindle_positions_create(&m.positions, m.context, &m.shape, 1));
  TRY(spindle_positions_set(m.positions, 0, &p, NULL));
  m.q = device(&m, O_COUNT);
  m.k = device(&m, KEYS * KEY);
  m.v = device(&m, KEYS * KEY);
  m.sinks = device(&m, HEADS);
  for (int x = 0; x < O_COUNT; x++) m.q[x] = (float)sin(0.71 * x * x);
  for (int x = 0; x < KEYS * KEY; x++) {
    m.k[x] = (float)cos(1.31 * x);
    m.v[x] = (float)sin(0.017 * x * (x % 17));
  }
  for (int h = 0; h < HEADS; h++) m.sinks[h] = (float)h - 1;
  return m;
}

/* A rank's share of the text. size 0: a contiguous slice. */
typedef struct shard {
  int32_t size, count, rank, keys;
  int64_t first;
} shard;

static shard shard_of(int32_t rank, int32_t size) {
  shard s = {size, size ? RANKS : 1, size ? rank : 0, 0, size ? 0 : (int64_t)rank * SLICE};
  for (int32_t j = 0; j < KEYS; j++) s.keys += size ? j / size % RANKS == rank : j / SLICE == rank;
  return s;
}

static int64_t text_index(const shard *s, int32_t key) {
  if (!s->size) return s->first + key;
  return (int64_t)(key / s->size * s->count + s->rank) * s->size + key % s->size;
}

/* The last ROWS rows of the text over one shard's keys. Every rank knows the true indices, so masks and rotations are those of
 * the whole. */
static void attend(model *m, const shard *s, int partial, float *o, float *lse) {
  spindle_plan_options bounds = {
      .struct_size = sizeof bounds, .max_requests = 1, .max_q_rows = ROWS, .max_kv_len = KEYS, .partial = partial};
  const int32_t zero = 0, rows = ROWS;
  const int64_t q_index = KEYS - ROWS;
  spindle_batch batch = {.struct_size = sizeof batch,
                         .max_requests = 1,
                         .q_begin = &zero,
                         .q_len = &rows,
                         .kv_len = &s->keys,
                         .q_index = &q_index,
                         .kv_index = &s->first,
                         .shard_size = s->size,
                         .shard_count = s->count,
                         .shard_rank = s->rank};
  spindle_plan *plan;
  void *state, *scratch;
  size_t state_bytes, scratch_bytes;
  float *k = device(m, KEYS * KEY), *v = device(m, KEYS * KEY);
  for (int32_t key = 0; key < s->keys; key++) {
    memcpy(k + key * KEY, m->k + text_index(s, key) * KEY, KEY * sizeof(float));
    memcpy(v + key * KEY, m->v + text_index(s, key) * KEY, KEY * sizeof(float));
  }
  TRY(spindle_plan_create(&plan, m->context, &m->shape, &bounds));
  TRY(spindle_plan_workspace(plan, &state_bytes, &scratch_bytes));
  TRY(spindle_malloc(m->context, &state, state_bytes));
  TRY(spindle_malloc(m->context, &scratch, scratch_bytes));
  TRY(spindle_plan_prepare(plan, m->positions, &batch, state, state_bytes, NULL));
  spindle_attention_args a = {.struct_size = sizeof a,
                              .q_rows = ROWS,
                              .q = {.data = m->q},
                              .o = {.data = o},
                              .k = {.data = k},
                              .v = {.data = v},
                              .lse = {.data = lse},
                              .sink_logits = m->sinks,
                              .scratch = scratch,
                              .scratch_bytes = scratch_bytes};
  TRY(spindle_attention(plan, &a, NULL));
  spindle_free(m->context, state);
  spindle_free(m->context, scratch);
  spindle_free(m->context, k);
  spindle_free(m->context, v);
  spindle_plan_destroy(plan);
}

static spindle_combine_args merge_of(int32_t parts, float *o, float *lse) {
  spindle_combine_args c = {.struct_size = sizeof c,
                            .parts = parts,
                            .rows = ROWS,
                            .num_q_heads = HEADS,
                            .head_dim_v = DIM,
                            .part_o = {.data = o},
                            .part_o_stride = O_COUNT,
                            .part_lse = {.data = lse},
                            .part_lse_stride = LSE_COUNT,
                            .o = {.data = o}};
  return c;
}

static int agree(const char *what, const float *got, const float *want, int count) {
  for (int x = 0; x < count; x++)
    if (!(fabsf(got[x] - want[x]) < 1e-5f)) {
      fprintf(stderr, "%s: element %d is %g, not %g\n", what, x, (double)got[x], (double)want[x]);
      return 0;
    }
  return 1;
}

/* O of each rank times exp(LSE of the rank - LSE of all), summed. */
static int reduce_scatter(model *m, const float *parts, float *lse, const float *whole) {
  float *scaled = device(m, O_COUNT), *sum = calloc(O_COUNT, sizeof *sum);
  for (int32_t rank = 0; rank < RANKS; rank++) {
    memcpy(scaled, parts + rank * O_COUNT, O_COUNT * sizeof *scaled);
    spindle_combine_args c = merge_of(RANKS, scaled, lse);
    c.own_part = rank;
    c.sink_logits = m->sinks;
    TRY(spindle_combine_scale(m->context, &c, NULL));
    for (int x = 0; x < O_COUNT; x++) sum[x] += scaled[x];
  }
  int same = agree("sum of scaled parts", sum, whole, O_COUNT);
  spindle_free(m->context, scaled);
  free(sum);
  return same;
}

/* Two parts side by side: what has been merged so far, and what arrives. The sink joins with the last. */
static int ring(model *m, const float *parts, const float *part_lse, const float *whole, const float *whole_lse) {
  float *o = device(m, 2 * O_COUNT), *lse = device(m, 2 * LSE_COUNT);
  memcpy(o, parts, O_COUNT * sizeof *o);
  memcpy(lse, part_lse, LSE_COUNT * sizeof *lse);
  for (int32_t rank = 1; rank < RANKS; rank++) {
    memcpy(o + O_COUNT, parts + rank * O_COUNT, O_COUNT * sizeof *o);
    memcpy(lse + LSE_COUNT, part_lse + rank * LSE_COUNT, LSE_COUNT * sizeof *lse);
    spindle_combine_args c = merge_of(2, o, lse);
    c.lse.data = lse;
    c.sink_logits = rank == RANKS - 1 ? m->sinks : NULL;
    TRY(spindle_combine(m->context, &c, NULL));
  }
  int same = agree("ring", o, whole, O_COUNT) && agree("ring's LSE", lse, whole_lse, LSE_COUNT);
  spindle_free(m->context, o);
  spindle_free(m->context, lse);
  return same;
}

int main(void) {
  model m = make_model();
  float *whole = device(&m, O_COUNT), *whole_lse = device(&m, LSE_COUNT);
  float *parts = device(&m, RANKS * O_COUNT), *lse = device(&m, RANKS * LSE_COUNT);
  shard all = {0, 1, 0, KEYS, 0};
  int same = 1;
  attend(&m, &all, 0, whole, whole_lse);
  for (int32_t size = 0; size <= BLOCK; size += BLOCK) {
    for (int32_t rank = 0; rank < RANKS; rank++) {
      shard s = shard_of(rank, size);
      attend(&m, &s, 1, parts + rank * O_COUNT, lse + rank * LSE_COUNT);
    }
    same = same && reduce_scatter(&m, parts, lse, whole) && ring(&m, parts, lse, whole, whole_lse);
  }
  float *buffers[] = {m.q, m.k, m.v, m.sinks, whole, whole_lse, parts, lse};
  for (size_t b = 0; b < sizeof buffers / sizeof *buffers; b++) spindle_free(m.context, buffers[b]);
  spindle_positions_destroy(m.positions);
  spindle_context_destroy(m.context);
  if (same) printf("%d shards, contiguous and in blocks of %d, equal the whole\n", RANKS, BLOCK);
  return !same;
}
