#include "attend.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "dtypes.h"
#include "mirror.h"

#define UNTOUCHED 0x5a

typedef struct entry {
  int32_t page;
  int64_t index;
  uint32_t first, end;
} entry;

/* What one call needs. Arrays are [count]. */
typedef struct call {
  const test_setup *setup;
  spindle_shape shape;
  test_request *request;
  int32_t count;

  int32_t q_rows, num_pages, page_rows, table_stride;
  size_t table_length;
  int64_t q_head, k_head, o_head, v_head; /* strides, padded to 16 bytes */
  int32_t *q_begin, *q_len, *kv_len, *position, *kv_begin, *kv_batch, *pages, *table_begin;
  int64_t *q_index, *kv_index, *n, *page_index;
  uint32_t *page_span;
  entry **entries;
  int32_t *num_entries;
  int64_t **slot; /* of key s of request r: page * page_rows + row */

  char *q, *k, *v, *o;
  float *lse;
  size_t q_bytes, k_bytes, v_bytes, o_bytes, lse_bytes;
} call;

static bool shuffled(const call *c) { return c->setup->random != NULL; }

static int32_t gap(const call *c, int32_t most) { return shuffled(c) ? (int32_t)test_random_int(c->setup->random, 0, most) : 0; }

static int64_t padded(int64_t dim, int32_t dtype) {
  int64_t unit = 16 / (int64_t)test_dtype_bytes(dtype);
  return (dim + unit - 1) / unit * unit;
}

/* ---- Placement ---- */

/* Row i of request r in Q, O and LSE, and how many there are. */
static int64_t row_of(const call *c, int32_t r, int32_t i) {
  return (c->setup->batched ? (int64_t)r * c->q_rows : 0) + c->q_begin[r] + i;
}
static int64_t num_rows(const call *c) { return (int64_t)c->q_rows * (c->setup->batched ? c->count : 1); }

static void place_batched_rows(call *c) {
  c->q_rows = 1;
  for (int32_t r = 0; r < c->count; r++) {
    c->q_begin[r] = gap(c, 3);
    int32_t rows = c->q_begin[r] + c->request[r].q_len + gap(c, 2);
    if (rows > c->q_rows) c->q_rows = rows;
  }
}

static void place_rows(call *c) {
  int32_t *order = malloc((size_t)c->count * sizeof *order);
  for (int32_t r = 0; r < c->count; r++) order[r] = r;
  if (shuffled(c)) test_random_permutation(c->setup->random, order, c->count);
  c->q_rows = 0;
  for (int32_t o = 0; o < c->count; o++) {
    c->q_rows += gap(c, 3);
    c->q_begin[order[o]] = c->q_rows;
    c->q_rows += c->request[order[o]].q_len;
  }
  c->q_rows += gap(c, 3);
  free(order);
}

static void place_dense(call *c) {
  c->num_pages = c->count + gap(c, 2);
  c->page_rows = 1;
  int32_t *order = malloc((size_t)c->num_pages * sizeof *order);
  for (int32_t r = 0; r < c->num_pages; r++) order[r] = r;
  if (shuffled(c)) test_random_permutation(c->setup->random, order, c->num_pages);
  for (int32_t r = 0; r < c->count; r++) {
    int32_t begin = gap(c, 3), rows = begin + c->request[r].kv_len + gap(c, 2);
    c->kv_batch[r] = order[r];
    c->kv_begin[r] = begin;
    if (rows > c->page_rows) c->page_rows = rows;
  }
  for (int32_t r = 0; r < c->count; r++)
    for (int32_t s = 0; s < c->request[r].kv_len; s++)
      c->slot[r][s] = (int64_t)c->kv_batch[r] * c->page_rows + c->kv_begin[r] + s;
  free(order);
}

static int64_t index_of_key(const test_request *q, int32_t s) { return q->key_index ? q->key_index[s] : q->kv_index + s; }

/* Keys into entries: full pages in order, or, with spans, broken where indices jump and at random. Pages are numbered as they
 * come. */
static void make_entries(call *c, int32_t r) {
  const test_request *q = &c->request[r];
  int32_t size = c->setup->page_size, made = 0;
  bool spans = c->setup->spans;
  entry *e = malloc(((size_t)q->kv_len + 1) * sizeof *e);
  for (int32_t s = 0; s < q->kv_len; s++) {
    bool fresh = made == 0 || e[made - 1].end == (uint32_t)size;
    fresh |= spans && made && (index_of_key(q, s) != index_of_key(q, s - 1) + 1 || (shuffled(c) && gap(c, 9) == 0));
    if (fresh) {
      uint32_t first = spans ? (uint32_t)gap(c, size - 1) : 0;
      e[made++] = (entry){c->num_pages++, index_of_key(q, s) - first, first, first};
    }
    c->slot[r][s] = (int64_t)e[made - 1].page * size + e[made - 1].end++;
  }
  c->entries[r] = e;
  c->num_entries[r] = made;
}

static void shuffle_pages(call *c) {
  c->num_pages += c->setup->pool ? (c->setup->pool - 1) * c->num_pages : gap(c, 3);
  if (c->num_pages == 0) c->num_pages = 1;
  int32_t *order = malloc((size_t)c->num_pages * sizeof *order);
  for (int32_t p = 0; p < c->num_pages; p++) order[p] = p;
  if (shuffled(c)) test_random_permutation(c->setup->random, order, c->num_pages);
  for (int32_t r = 0; r < c->count; r++) {
    for (int32_t e = 0; e < c->num_entries[r]; e++) c->entries[r][e].page = order[c->entries[r][e].page];
    for (int32_t s = 0; s < c->request[r].kv_len; s++)
      c->slot[r][s] = (int64_t)order[c->slot[r][s] / c->page_rows] * c->page_rows + c->slot[r][s] % c->page_rows;
  }
  free(order);
}

/* A table of exactly the entries in use (CSR), or rows of equal length whose unused entries must not be followed. */
static void write_table(call *c) {
  int32_t total = 0;
  for (int32_t r = 0; r < c->count; r++) {
    if (c->num_entries[r] > c->table_stride) c->table_stride = c->num_entries[r];
    total += c->num_entries[r];
  }
  c->table_stride += 1 + gap(c, 2);
  size_t length = c->table_length = c->setup->csr ? (size_t)total : (size_t)c->count * (size_t)c->table_stride;
  c->pages = test_memory(length * sizeof *c->pages);
  c->page_index = test_memory(length * sizeof *c->page_index);
  c->page_span = test_memory(length * sizeof *c->page_span);
  c->table_begin[0] = 0;
  for (int32_t r = 0; r < c->count; r++) {
    int32_t at = c->setup->csr ? c->table_begin[r] : r * c->table_stride;
    c->table_begin[r + 1] = c->table_begin[r] + c->num_entries[r];
    for (int32_t e = 0; e < c->num_entries[r]; e++) {
      c->pages[at + e] = c->entries[r][e].page;
      c->page_index[at + e] = c->entries[r][e].index;
      c->page_span[at + e] = c->entries[r][e].first | c->entries[r][e].end << 16;
    }
  }
}

static void place_keys(call *c) {
  if (!c->setup->page_size) {
    place_dense(c);
    return;
  }
  c->page_rows = c->setup->page_size;
  for (int32_t r = 0; r < c->count; r++) make_entries(c, r);
  shuffle_pages(c);
  write_table(c);
}

/* ---- Data ---- */

static void store_row(char *base, int32_t dtype, int64_t row, int32_t heads, int64_t head_stride, int32_t dim, const float *from,
                      const float *scale, int64_t scale_head) {
  size_t bytes = test_dtype_bytes(dtype);
  for (int32_t h = 0; h < heads; h++)
    for (int32_t d = 0; d < dim; d++) {
      float value = from[(int64_t)h * dim + d] / (scale ? scale[h * scale_head] : 1.0f);
      test_store(dtype, base + (size_t)(row * heads * head_stride + h * head_stride + d) * bytes, value);
    }
}

static void write_tensors(call *c) {
  const spindle_shape *s = &c->shape;
  const spindle_attention_args *a = &c->setup->args;
  size_t keys = (size_t)c->num_pages * (size_t)c->page_rows * (size_t)s->num_kv_heads,
         rows = (size_t)num_rows(c) * (size_t)s->num_q_heads;
  c->q_bytes = rows * (size_t)c->q_head * test_dtype_bytes(s->q_dtype);
  c->o_bytes = rows * (size_t)c->o_head * test_dtype_bytes(s->o_dtype);
  c->lse_bytes = rows * sizeof *c->lse;
  c->k_bytes = keys * (size_t)c->k_head * test_dtype_bytes(s->kv_dtype);
  c->v_bytes = keys * (size_t)c->v_head * test_dtype_bytes(s->kv_dtype);
  c->q = test_memory(c->q_bytes);
  c->o = test_memory(c->o_bytes);
  c->lse = test_memory(c->lse_bytes);
  c->k = test_memory(c->k_bytes);
  c->v = test_memory(c->v_bytes);
  memset(c->o, UNTOUCHED, c->o_bytes);
  memset(c->lse, UNTOUCHED, c->lse_bytes);
  for (int32_t r = 0; r < c->count; r++) {
    const test_request *q = &c->request[r];
    int64_t q_row = (int64_t)s->num_q_heads * s->head_dim_qk, k_row = (int64_t)s->num_kv_heads * s->head_dim_qk;
    for (int32_t i = 0; i < q->q_len; i++)
      store_row(c->q, s->q_dtype, row_of(c, r, i), s->num_q_heads, c->q_head, s->head_dim_qk, q->q + i * q_row, NULL, 0);
    for (int32_t j = 0; j < q->kv_len; j++) {
      int64_t v_row = (int64_t)s->num_kv_heads * s->head_dim_v;
      store_row(c->k, s->kv_dtype, c->slot[r][j], s->num_kv_heads, c->k_head, s->head_dim_qk, q->k + j * k_row, a->k.scale,
                a->k.scale_head);
      store_row(c->v, s->kv_dtype, c->slot[r][j], s->num_kv_heads, c->v_head, s->head_dim_v, q->v + j * v_row, a->v.scale,
                a->v.scale_head);
    }
  }
}

static bool is_untouched(const void *at, size_t bytes) {
  const unsigned char *byte = at;
  for (size_t b = 0; b < bytes; b++)
    if (byte[b] != UNTOUCHED) return false;
  return true;
}

static void read_results(call *c) {
  const spindle_shape *s = &c->shape;
  size_t bytes = test_dtype_bytes(s->o_dtype);
  bool *used = calloc((size_t)num_rows(c) + 1, sizeof *used);
  for (int32_t r = 0; r < c->count; r++)
    for (int32_t i = 0; i < c->request[r].q_len; i++) {
      int64_t row = row_of(c, r, i);
      used[row] = true;
      for (int32_t h = 0; h < s->num_q_heads; h++) {
        const char *at = c->o + (size_t)((row * s->num_q_heads + h) * c->o_head) * bytes;
        int64_t out = (int64_t)i * s->num_q_heads + h;
        for (int32_t d = 0; d < s->head_dim_v; d++)
          c->request[r].o[out * s->head_dim_v + d] = test_load(s->o_dtype, at + (size_t)d * bytes);
        cr_assert(is_untouched(at + (size_t)s->head_dim_v * bytes, (size_t)(c->o_head - s->head_dim_v) * bytes),
                  "wrote between heads of O");
        c->request[r].lse[out] = c->lse[row * s->num_q_heads + h];
      }
    }
  for (int64_t row = 0; row < num_rows(c); row++) {
    size_t o_row = (size_t)s->num_q_heads * (size_t)c->o_head * bytes, lse_row = (size_t)s->num_q_heads * sizeof(float);
    if (!used[row])
      cr_assert(is_untouched(c->o + (size_t)row * o_row, o_row), "wrote row %d of O, which is no request's", (int)row);
    if (!used[row])
      cr_assert(is_untouched((char *)c->lse + (size_t)row * lse_row, lse_row), "wrote row %d of LSE, which is no request's",
                (int)row);
  }
  free(used);
}

/* ---- The call ---- */

static void make_arrays(call *c) {
  size_t count = (size_t)c->count;
  int32_t **small[] = {&c->q_begin, &c->q_len, &c->kv_len, &c->position, &c->kv_begin, &c->kv_batch};
  int64_t **large[] = {&c->q_index, &c->kv_index, &c->n};
  for (size_t a = 0; a < sizeof small / sizeof *small; a++) *small[a] = test_memory(count * sizeof **small[a]);
  for (size_t a = 0; a < sizeof large / sizeof *large; a++) *large[a] = test_memory(count * sizeof **large[a]);
  c->table_begin = test_memory((count + 1) * sizeof *c->table_begin);
  c->entries = calloc(count, sizeof *c->entries);
  c->num_entries = calloc(count, sizeof *c->num_entries);
  c->slot = calloc(count, sizeof *c->slot);
  for (int32_t r = 0; r < c->count; r++) {
    const test_request *q = &c->request[r];
    c->q_len[r] = q->q_len;
    c->kv_len[r] = q->kv_len;
    c->position[r] = r;
    c->q_index[r] = q->q_index;
    c->kv_index[r] = q->kv_index;
    c->n[r] = q->n ? q->n : q->q_index + q->q_len;
    c->slot[r] = malloc(((size_t)q->kv_len + 1) * sizeof **c->slot);
  }
  if (shuffled(c)) test_random_permutation(c->setup->random, c->position, c->count);
}

static void free_call(call *c) {
  for (int32_t r = 0; r < c->count; r++) {
    free(c->entries[r]);
    free(c->slot[r]);
  }
  void *all[] = {c->q_begin,     c->q_len,   c->kv_len,   c->position, c->kv_begin,   c->kv_batch,  c->pages,
                 c->table_begin, c->q_index, c->kv_index, c->n,        c->page_index, c->page_span, c->entries,
                 c->num_entries, c->slot,    c->q,        c->k,        c->v,          c->o,         c->lse};
  for (size_t a = 0; a < sizeof all / sizeof *all; a++) free(all[a]);
}

static spindle_plan_options bounds(const call *c) {
  spindle_plan_options o = {.struct_size = sizeof o,
                            .max_requests = c->count,
                            .page_size = c->setup->page_size,
                            .split_keys = c->setup->split_keys,
                            .schedule = c->setup->schedule,
                            .partial = c->setup->partial,
                            .max_q_len = 1,
                            .max_kv_len = c->setup->max_kv_len > 1 ? c->setup->max_kv_len : 1};
  for (int32_t r = 0; r < c->count; r++) {
    if (c->request[r].q_len > o.max_q_len) o.max_q_len = c->request[r].q_len;
    if (c->request[r].kv_len > o.max_kv_len) o.max_kv_len = c->request[r].kv_len;
  }
  o.max_q_rows = num_rows(c) > o.max_q_len ? (int32_t)num_rows(c) : o.max_q_len;
  if (!c->setup->generous) return o;
  o.max_requests += 5;
  o.max_q_rows = 3 * o.max_q_rows + 100;
  o.max_q_len = 2 * o.max_q_len + 7;
  o.max_kv_len = 4 * o.max_kv_len + 1000;
  return o;
}

static spindle_batch make_batch(const call *c, test_mirror *m) {
  size_t small = (size_t)c->count * sizeof(int32_t), large = (size_t)c->count * sizeof(int64_t);
  spindle_batch b = {.struct_size = sizeof b,
                     .max_requests = c->count,
                     .page_size = c->setup->page_size,
                     .num_pages = c->num_pages,
                     .shard_size = c->setup->shard_size,
                     .shard_count = c->setup->shard_count,
                     .shard_rank = c->setup->shard_rank,
                     .q_begin = test_mirror_in(m, c->q_begin, small),
                     .q_len = test_mirror_in(m, c->q_len, small),
                     .kv_len = test_mirror_in(m, c->kv_len, small),
                     .n = test_mirror_in(m, c->n, large),
                     .position = test_mirror_in(m, c->position, small)};
  if (!c->setup->spans) b.kv_index = test_mirror_in(m, c->kv_index, large);
  if (!c->setup->default_q_index) b.q_index = test_mirror_in(m, c->q_index, large);
  if (c->setup->page_size) {
    b.pages = test_mirror_in(m, c->pages, c->table_length * sizeof *c->pages);
    if (c->setup->csr)
      b.table_begin = test_mirror_in(m, c->table_begin, small + sizeof *c->table_begin);
    else
      b.table_stride = c->table_stride;
    if (c->setup->spans) {
      b.page_index = test_mirror_in(m, c->page_index, c->table_length * sizeof *c->page_index);
      b.page_span = test_mirror_in(m, c->page_span, c->table_length * sizeof *c->page_span);
    }
  } else {
    b.dense_rows = c->page_rows;
    b.kv_begin = test_mirror_in(m, c->kv_begin, small);
    b.kv_batch = test_mirror_in(m, c->kv_batch, small);
  }
  return b;
}

static const float *mirror_scales(const call *c, test_mirror *m, const spindle_cache *cache) {
  return test_mirror_in(m, cache->scale, (cache->scale_head ? (size_t)c->shape.num_kv_heads : 1) * sizeof(float));
}

static spindle_attention_args make_args(const call *c, test_mirror *m) {
  const spindle_shape *s = &c->shape;
  spindle_attention_args a = c->setup->args;
  size_t weights = (size_t)s->num_q_heads * sizeof(float);
  int64_t q_row = s->num_q_heads * c->q_head, o_row = s->num_q_heads * c->o_head;
  a.struct_size = sizeof a;
  a.q_rows = c->q_rows;
  a.q = (spindle_rows){test_mirror_in(m, c->q, c->q_bytes), c->q_rows * q_row, q_row, c->q_head};
  a.o = (spindle_rows){test_mirror_out(m, c->o, c->o_bytes), c->q_rows * o_row, o_row, c->o_head};
  a.k.scale = mirror_scales(c, m, &a.k);
  a.v.scale = mirror_scales(c, m, &a.v);
  a.k =
      (spindle_cache){test_mirror_in(m, c->k, c->k_bytes), 0, s->num_kv_heads * c->k_head, c->k_head, a.k.scale, a.k.scale_head};
  a.v =
      (spindle_cache){test_mirror_in(m, c->v, c->v_bytes), 0, s->num_kv_heads * c->v_head, c->v_head, a.v.scale, a.v.scale_head};
  a.lse.data = test_mirror_out(m, c->lse, c->lse_bytes);
  if (c->setup->batched)
    a.lse.batch = (int64_t)c->q_rows * s->num_q_heads;
  else
    a.q.batch = a.o.batch = 0;
  a.bias_a = test_mirror_in(m, a.bias_a, weights);
  a.bias_p = test_mirror_in(m, a.bias_p, weights);
  a.sink_logits = test_mirror_in(m, a.sink_logits, weights);
  a.row_scale_s = test_mirror_in(m, a.row_scale_s, weights);
  a.row_scale_b = test_mirror_in(m, a.row_scale_b, weights);
  return a;
}

static void run(call *c) {
  spindle_context_options options = {
      .struct_size = sizeof options, .backend = c->setup->backend, .num_threads = c->setup->num_threads};
  spindle_plan_options plan_options = bounds(c);
  spindle_context *context;
  spindle_positions *positions;
  spindle_plan *plan;
  spindle_stream stream;
  size_t state_bytes, scratch_bytes;
  test_ok(spindle_context_create(&context, &options));
  test_ok(spindle_stream_create(context, &stream));
  test_ok(spindle_positions_create(&positions, context, &c->shape, c->count));
  for (int32_t r = 0; r < c->count; r++) {
    spindle_position p = c->request[r].position;
    p.struct_size = sizeof p;
    test_ok(spindle_positions_set(positions, c->position[r], &p, stream));
  }
  test_ok(spindle_plan_create(&plan, context, &c->shape, &plan_options));
  test_ok(spindle_plan_workspace(plan, &state_bytes, &scratch_bytes));
  void *state = test_memory(state_bytes), *scratch = test_memory(scratch_bytes);

  test_mirror m = test_mirror_open(context);
  spindle_batch batch = make_batch(c, &m);
  spindle_attention_args args = make_args(c, &m);
  args.scratch = test_mirror_in(&m, scratch, scratch_bytes);
  args.scratch_bytes = scratch_bytes;
  test_ok(spindle_batch_check(plan, positions, &batch, stream));
  test_ok(spindle_plan_prepare(plan, positions, &batch, test_mirror_in(&m, state, state_bytes), state_bytes, stream));
  test_ok(spindle_attention(plan, &args, stream));
  test_mirror_fetch(&m, stream);
  if (c->setup->inspect) c->setup->inspect(plan);

  test_mirror_close(&m);
  free(state);
  free(scratch);
  spindle_plan_destroy(plan);
  spindle_positions_destroy(positions);
  spindle_stream_destroy(context, stream);
  spindle_context_destroy(context);
}

void test_attend(const test_setup *setup, test_request *requests, int32_t count) {
  call c = {.setup = setup, .shape = test_shape(setup->shape), .request = requests, .count = count};
  c.q_head = padded(c.shape.head_dim_qk, c.shape.q_dtype);
  c.o_head = padded(c.shape.head_dim_v, c.shape.o_dtype);
  c.k_head = padded(c.shape.head_dim_qk, c.shape.kv_dtype);
  c.v_head = padded(c.shape.head_dim_v, c.shape.kv_dtype);
  make_arrays(&c);
  if (setup->batched)
    place_batched_rows(&c);
  else
    place_rows(&c);
  place_keys(&c);
  write_tensors(&c);
  run(&c);
  read_results(&c);
  free_call(&c);
}
