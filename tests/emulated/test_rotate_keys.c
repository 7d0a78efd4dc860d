/* The pre-rotation of keys: every key of every request that asked for it, under every map, where it belongs and nothing else. The
 * keys' indices are walked here; what prepare would leave on the device is made by hand. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/launch.h"
#include "kernels/rope/phase.h"
#include "support/attend.h"
#include "support/dtypes.h"
#include "support/exact.h"
#include "support/methods.h"
#include "support/mirror.h"

enum { REQUESTS = 4, PAGES = 40, HEADS = 3, MOST_ENTRIES = 9, MOST_PAIRS = 64 };

typedef struct keys_case {
  spindle_shape shape;
  int32_t page_size; /* 0: dense, PAGES batch rows of dense_rows */
  int32_t dense_rows, rows_each, k_head, stride;
  size_t k_size; /* of an element of K; a rotated one is of q_dtype */
  bool spans;
  spindle_batch batch;
  int32_t pages[REQUESTS * MOST_ENTRIES];
  int64_t page_index[REQUESTS * MOST_ENTRIES];
  uint32_t page_span[REQUESTS * MOST_ENTRIES];
  spindle__prepared request[REQUESTS];
  double w[REQUESTS][MOST_PAIRS];
  spindle__phase phases[REQUESTS][2][MOST_PAIRS];
  int64_t rotated_rows;
  char *k, *rotated;
  size_t k_bytes, rotated_bytes;
} keys_case;

/* The key in slot u: its index and element in K; -1 if there is none. */
static int64_t key_in(const keys_case *c, int32_t q, int64_t u, int64_t *at) {
  const spindle__request *r = &c->request[q].request;
  int32_t size = c->page_size, row = (int32_t)(u + r->kv_begin), page = r->kv_batch;
  int64_t index = u + r->kv_index;
  if (size) {
    int32_t e = q * MOST_ENTRIES + (int32_t)(u / size);
    uint32_t first = c->spans ? c->page_span[e] & 0xffff : 0, end = c->spans ? c->page_span[e] >> 16 : (uint32_t)size;
    row = (int32_t)(u % size);
    page = c->pages[e];
    if (c->spans) index = c->page_index[e] + row;
    if (u / size == r->num_entries - 1 && end > (uint32_t)r->last_end) end = (uint32_t)r->last_end;
    if ((uint32_t)row < first || (uint32_t)row >= end) return -1;
  }
  *at = ((int64_t)page * c->rows_each + row) * HEADS * c->k_head;
  return index;
}

/* ---- Setting up ---- */

static void draw_table(test_random *r, keys_case *c, int32_t q, const int32_t *order) {
  spindle__request *at = &c->request[q].request;
  int64_t index = test_random_log(r, 1, (int64_t)1 << 39);
  at->num_entries = (int32_t)test_random_int(r, 1, MOST_ENTRIES);
  at->last_end = (int32_t)test_random_int(r, 1, c->page_size);
  at->first_entry = q * MOST_ENTRIES;
  at->kv_index = index;
  for (int32_t e = 0; e < MOST_ENTRIES; e++) {
    uint32_t first = (uint32_t)test_random_int(r, 0, c->page_size), end = (uint32_t)test_random_int(r, 0, c->page_size);
    c->pages[at->first_entry + e] = order[at->first_entry + e];
    c->page_index[at->first_entry + e] = index;
    c->page_span[at->first_entry + e] = first | end << 16;
    index += c->page_size + test_random_int(r, 0, 5);
  }
  c->request[q].num_slots = (int64_t)at->num_entries * c->page_size;
}

static void draw_dense(test_random *r, keys_case *c, int32_t q, const int32_t *order) {
  spindle__request *at = &c->request[q].request;
  at->kv_batch = order[q];
  at->kv_len = (int32_t)test_random_int(r, 1, c->dense_rows);
  at->kv_begin = (int32_t)test_random_int(r, 0, c->dense_rows - at->kv_len);
  at->kv_index = test_random_log(r, 1, (int64_t)1 << 39);
  c->request[q].num_slots = at->kv_len;
}

/* plain: no remap, no decay. */
static void draw_rule(test_random *r, keys_case *c, int32_t q, bool plain) {
  int32_t remap = plain ? SPINDLE_REMAP_NONE : (int32_t)test_random_int(r, 0, TEST_NUM_REMAPS - 1);
  spindle__prepared *p = &c->request[q];
  spindle_position rule = {.rope = SPINDLE_ROPE_TABLE};
  p->position = test_remap(rule, remap);
  p->scale_base = !plain && remap == SPINDLE_REMAP_NONE ? test_random_real(r, 20, 2000) : 0;
  p->rotates = 1;
  for (int32_t t = 0; t < c->shape.rotary_dim / 2; t++) {
    double w = test_random_once_in(r, 8) ? 0 : exp(test_random_real(r, log(1e-6), 0)), k = p->position.remap_k;
    c->w[q][t] = w;
    for (int scaled = 0; scaled < 2; scaled++) {
      spindle__phase *phase = &c->phases[0][0][0] + ((int64_t)q * 2 + scaled) * (c->shape.rotary_dim / 2) + t;
      phase->step = scaled && k <= 0 ? 0 : spindle__phase_step(w, scaled ? k : 1);
      spindle__step_cos_sin(phase->step, &phase->cos_step, &phase->sin_step);
    }
  }
}

/* Every third request keeps its keys as they are; there are gaps between the copies in scratch. */
static int64_t place(test_random *r, keys_case *c) {
  int64_t blocks = 0;
  for (int32_t q = 0; q < REQUESTS; q++) {
    spindle__prepared *p = &c->request[q];
    int32_t copies = q % 3 == 2 ? 0 : spindle__num_key_copies(p);
    c->rotated_rows += test_random_int(r, 0, 5);
    p->first_rotate_block = blocks;
    p->rotated_at = copies ? c->rotated_rows : -1;
    c->rotated_rows += copies * p->num_slots;
    blocks += copies * ((p->num_slots + SPINDLE__ROTATE_BLOCK - 1) / SPINDLE__ROTATE_BLOCK);
  }
  return blocks;
}

static keys_case *make_case(test_random *r, spindle_shape shape, int32_t page_size, bool spans, bool plain, int64_t *blocks) {
  keys_case *c = calloc(1, sizeof *c);
  int32_t order[PAGES];
  *c = (keys_case){.shape = shape, .page_size = page_size, .dense_rows = 150, .spans = spans};
  c->rows_each = page_size ? page_size : c->dense_rows;
  c->stride = (shape.head_dim_qk + 7) / 8 * 8;
  c->k_head = (shape.head_dim_qk + 15) / 16 * 16;
  c->k_size = test_dtype_bytes(shape.kv_dtype);
  test_random_permutation(r, order, PAGES);
  for (int32_t q = 0; q < REQUESTS; q++) {
    if (page_size)
      draw_table(r, c, q, order);
    else
      draw_dense(r, c, q, order);
    draw_rule(r, c, q, plain);
  }
  *blocks = place(r, c);
  c->k_bytes = (size_t)PAGES * (size_t)c->rows_each * HEADS * (size_t)c->k_head * c->k_size;
  c->rotated_bytes = (size_t)HEADS * (size_t)c->rotated_rows * (size_t)c->stride * 2;
  c->k = test_memory(c->k_bytes);
  c->rotated = test_memory(c->rotated_bytes); /* NaN */
  for (int32_t q = 0; q < REQUESTS; q++) {
    int64_t at;
    for (int64_t u = 0; u < c->request[q].num_slots; u++)
      for (int32_t x = 0; key_in(c, q, u, &at) >= 0 && x < HEADS * c->k_head; x++)
        test_store(shape.kv_dtype, c->k + (size_t)(at + x) * c->k_size, (float)test_random_normal(r));
  }
  return c;
}

static void launch(spindle_context *context, keys_case *c, int64_t blocks, int32_t kv_begin, int32_t kv_end) {
  test_mirror m = test_mirror_open(context);
  spindle__totals totals = {.num_requests = REQUESTS, .num_rotate_blocks = blocks};
  spindle__attention_params p = {.shape = c->shape, .kv_begin = kv_begin, .kv_end = kv_end, .blocks = 3};
  p.batch = (spindle_batch){.page_size = c->page_size, .num_pages = PAGES, .dense_rows = c->dense_rows, .shard_count = 1};
  p.batch.pages = test_mirror_in(&m, c->pages, sizeof c->pages);
  p.batch.page_index = c->spans ? test_mirror_in(&m, c->page_index, sizeof c->page_index) : NULL;
  p.batch.page_span = c->spans ? test_mirror_in(&m, c->page_span, sizeof c->page_span) : NULL;
  p.args.k = (spindle_cache){.row = HEADS * c->k_head, .head = c->k_head, .page = (int64_t)c->rows_each * HEADS * c->k_head};
  p.args.k.data = test_mirror_in(&m, c->k, c->k_bytes);
  p.state.totals = test_mirror_in(&m, &totals, sizeof totals);
  p.state.requests = test_mirror_in(&m, c->request, sizeof c->request);
  p.state.phases = test_mirror_in(&m, c->phases, sizeof c->phases);
  p.rotated = test_mirror_out(&m, c->rotated, c->rotated_bytes);
  p.rotated_rows = c->rotated_rows;
  p.rotated_stride = c->stride;
  cr_assert_eq(spindle__launch_rotate_keys(&p, NULL), 0);
  test_mirror_fetch(&m, NULL);
  test_mirror_close(&m);
}

/* ---- What is expected ---- */

/* Position of a key of index j in copy `copy`, as a fraction. */
static int64_t mapped(const spindle_position *p, int32_t copy, int64_t j, double *divisor) {
  *divisor = 1;
  if (p->remap == SPINDLE_REMAP_DCA) return j % (p->remap_chunk - p->remap_local);
  if (p->remap == SPINDLE_REMAP_DCA_PAPER) return j % p->remap_chunk;
  if (!copy) return j;
  if (p->remap == SPINDLE_REMAP_SELF_EXTEND) return j / p->remap_group;
  *divisor = p->remap_k; /* the only other with a second copy: Leaky ReRoPE */
  return j;
}

static void check_key(const keys_case *c, int32_t q, int32_t copy, int64_t index, int32_t head, const char *k, const char *got) {
  const spindle__prepared *p = &c->request[q];
  int32_t dim = c->shape.head_dim_qk, pairs = c->shape.rotary_dim / 2;
  float x[256] = {0};
  double want[256], growth[MOST_PAIRS], divisor, largest = 1;
  int64_t position = mapped(&p->position, copy, index, &divisor),
          block = p->scale_base > 0 ? spindle__decay_block(p->scale_base) : 1;
  for (int32_t t = 0; t < pairs; t++) {
    double zeta = (2.0 * t + 0.4 * 2 * pairs) / (1.4 * 2 * pairs);
    growth[t] = p->scale_base > 0 ? pow(zeta, -(double)(index % block) / p->scale_base) : 1;
    largest = fmax(largest, growth[t]);
  }
  for (int32_t d = 0; d < dim; d++) x[d] = test_load(c->shape.kv_dtype, k + (size_t)d * c->k_size);
  test_exact_rotate(&c->shape, c->w[q], position, divisor, 1, growth, x, want);
  for (int32_t d = 0; d < dim; d++) {
    double y = (double)test_load(c->shape.q_dtype, got + 2 * d);
    double tolerance = test_unit_roundoff(c->shape.q_dtype) * fabs(want[d]) + 1e-5 * largest; /* |x| <= 6, cos within 1e-6 */
    bool turns = d >= c->shape.rotary_offset && d < c->shape.rotary_offset + 2 * pairs;
    cr_assert(turns ? fabs(y - want[d]) <= tolerance : y == want[d],
              "request %d, remap %d, copy %d, head %d, index %lld: channel %d is %g, not %g", q, p->position.remap, copy, head,
              (long long)index, d, y, want[d]);
  }
}

/* Marks in `written` the elements that hold a key. */
static void check_request(const keys_case *c, int32_t q, int32_t kv_begin, int32_t kv_end, char *written) {
  const spindle__prepared *p = &c->request[q];
  int32_t copies = p->rotated_at < 0 ? 0 : spindle__num_key_copies(p);
  for (int32_t x = 0; x < copies * (kv_end - kv_begin); x++)
    for (int64_t u = 0; u < p->num_slots; u++) {
      int32_t copy = x % copies, head = x / copies;
      int64_t at, index = key_in(c, q, u, &at), row = head * c->rotated_rows + p->rotated_at + copy * p->num_slots + u;
      if (index < 0) continue;
      check_key(c, q, copy, index, kv_begin + head, c->k + (size_t)(at + (kv_begin + head) * c->k_head) * c->k_size,
                c->rotated + 2 * row * c->stride);
      memset(written + row * c->stride, 1, (size_t)c->shape.head_dim_qk);
    }
}

static void check_all(spindle_context *context, test_random *r, spindle_shape shape, int32_t page_size, bool spans) {
  int64_t blocks;
  keys_case *c = make_case(r, shape, page_size, spans, test_random_once_in(r, 4), &blocks);
  int32_t kv_begin = (int32_t)test_random_int(r, 0, HEADS - 1), kv_end = (int32_t)test_random_int(r, kv_begin + 1, HEADS);
  char *written = calloc(c->rotated_bytes / 2 + 1, 1);
  launch(context, c, blocks, kv_begin, kv_end);
  for (int32_t q = 0; q < REQUESTS; q++) check_request(c, q, kv_begin, kv_end, written);
  for (size_t x = 0; x < c->rotated_bytes / 2; x++)
    if (!written[x])
      cr_assert(c->rotated[2 * x] == -1 && c->rotated[2 * x + 1] == -1, "element %zu holds no key, but was written", x);
  free(written);
  free(c->k);
  free(c->rotated);
  free(c);
}

Test(rotate_keys, every_key_once_where_it_belongs) {
  test_random r = test_random_start();
  spindle_context *context;
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CUDA};
  static const spindle_shape shapes[] = {
      {.q_dtype = SPINDLE_BF16, .kv_dtype = SPINDLE_BF16, .head_dim_qk = 64, .rotary_dim = 64},
      {.q_dtype = SPINDLE_F16, .kv_dtype = SPINDLE_F16, .head_dim_qk = 64, .rotary_dim = 64, .pair_layout = 1},
      {.q_dtype = SPINDLE_BF16,
       .kv_dtype = SPINDLE_BF16,
       .head_dim_qk = 80,
       .rotary_dim = 48,
       .rotary_offset = 16,
       .pair_layout = 1},
      {.q_dtype = SPINDLE_F16, .kv_dtype = SPINDLE_F16, .head_dim_qk = 45, .rotary_dim = 22, .rotary_offset = 7},
      {.q_dtype = SPINDLE_BF16,
       .kv_dtype = SPINDLE_BF16,
       .head_dim_qk = 33,
       .rotary_dim = 20,
       .rotary_offset = 3,
       .pair_layout = 1},
      {.q_dtype = SPINDLE_BF16, .kv_dtype = SPINDLE_F8E4M3, .head_dim_qk = 64, .rotary_dim = 64},
      {.q_dtype = SPINDLE_F16, .kv_dtype = SPINDLE_F8E4M3, .head_dim_qk = 45, .rotary_dim = 22, .rotary_offset = 7},
      {.q_dtype = SPINDLE_F16,
       .kv_dtype = SPINDLE_F8E4M3,
       .head_dim_qk = 80,
       .rotary_dim = 48,
       .rotary_offset = 16,
       .pair_layout = 1},
  };
  test_ok(spindle_context_create(&context, &options));
  for (int round = 0; round < 24; round++) {
    static const int32_t sizes[] = {0, 1, 16, 64};
    int32_t page_size = sizes[test_random_int(&r, 0, 3)];
    check_all(context, &r, shapes[round % 8], page_size, page_size && test_random_once_in(&r, 2));
  }
  spindle_context_destroy(context);
}

/* A thread steps from key to key here, and goes straight to its position there. */
Test(rotate_keys, bits_are_those_of_spindle_rotate) {
  test_random r = test_random_start();
  spindle_context *context;
  spindle_positions *positions;
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CUDA};
  spindle_shape shape = {.q_dtype = SPINDLE_BF16,
                         .kv_dtype = SPINDLE_BF16,
                         .num_q_heads = HEADS,
                         .num_kv_heads = HEADS,
                         .head_dim_qk = 64,
                         .rotary_dim = 64};
  int64_t blocks, at;
  shape = test_shape(shape);
  keys_case *c = make_case(&r, shape, 16, true, true, &blocks);
  test_ok(spindle_context_create(&context, &options));
  test_ok(spindle_positions_create(&positions, context, &shape, 1));
  launch(context, c, blocks, 0, HEADS);
  spindle_position rule = {.struct_size = sizeof rule, .rope = SPINDLE_ROPE_TABLE, .num_pairs = 32, .inv_freq = c->w[0]};
  test_ok(spindle_positions_set(positions, 0, &rule, NULL));
  for (int64_t u = 0; u < c->request[0].num_slots; u++) {
    int64_t index = key_in(c, 0, u, &at);
    uint16_t want[HEADS * 64];
    if (index < 0) continue;
    test_mirror m = test_mirror_open(context);
    spindle_rotate_args a = {
        .struct_size = sizeof a, .rows = 1, .heads = HEADS, .index = test_mirror_in(&m, &index, sizeof index)};
    memcpy(want, c->k + 2 * at, sizeof want);
    a.x.data = a.out.data = test_mirror_out(&m, want, sizeof want);
    test_ok(spindle_rotate(context, &shape, positions, &a, NULL));
    test_mirror_fetch(&m, NULL);
    test_mirror_close(&m);
    for (int32_t h = 0; h < HEADS; h++)
      cr_assert(!memcmp(want + h * 64, c->rotated + 2 * (h * c->rotated_rows + c->request[0].rotated_at + u) * c->stride, 128),
                "head %d, index %lld", h, (long long)index);
  }
  spindle_positions_destroy(positions);
  spindle_context_destroy(context);
  free(c->k);
  free(c->rotated);
  free(c);
}
