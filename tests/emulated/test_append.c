/* spindle_append on the device: every row in its slot in the cache's type, keys rotated where the cache has rotated keys, and
 * nothing else written. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/dtypes.h"
#include "support/exact.h"
#include "support/methods.h"
#include "support/mirror.h"

enum { ROWS = 11, PAGES = 5, PAGE = 7, SLOTS = PAGES * PAGE };

static const spindle_position rules[] = {{.rope = SPINDLE_ROPE_DEFAULT},
                                         {.rope = SPINDLE_ROPE_YARN, .factor = 4, .original_max_position_embeddings = 96},
                                         {.rope = SPINDLE_ROPE_LINEAR, .factor = 3}};

/* One of K and V, on the host. */
typedef struct tensor {
  int32_t dim, head, cache_head; /* channels; strides of heads */
  char *from, *cache;
  size_t from_bytes, cache_bytes;
  float scale[8];
} tensor;

typedef struct append_case {
  spindle_shape shape;
  int32_t src_dtype, scale_head;
  bool rotating, scaled;
  tensor t[2];
  int64_t slot[ROWS], index[ROWS];
  int32_t position[ROWS];
} append_case;

static tensor make_tensor(test_random *r, const append_case *c, int32_t dim) {
  tensor t = {.dim = dim, .head = (dim + 15) / 16 * 16 + 16, .cache_head = (dim + 15) / 16 * 16};
  int32_t heads = c->shape.num_kv_heads;
  t.from_bytes = (size_t)(ROWS * heads * t.head) * test_dtype_bytes(c->src_dtype);
  t.cache_bytes = (size_t)(SLOTS * heads * t.cache_head) * test_dtype_bytes(c->shape.kv_dtype);
  t.from = test_memory(t.from_bytes);
  t.cache = test_memory(t.cache_bytes);
  for (int32_t x = 0; x < ROWS * heads * t.head; x++)
    if (x % t.head < dim) /* some beyond what e4m3 holds */
      test_store(c->src_dtype, t.from + (size_t)x * test_dtype_bytes(c->src_dtype),
                 (float)(test_random_normal(r) * (test_random_once_in(r, 20) ? 300 : 2)));
  for (int32_t h = 0; h < 8; h++) t.scale[h] = (float)test_random_real(r, 0.1, 2);
  return t;
}

static append_case draw_case(test_random *r, int32_t src_dtype, int32_t kv_dtype, bool rotating) {
  /* Bytes that two threads write lie in different halfwords, for the emulator tells no smaller units apart. */
  static const spindle_shape shapes[] = {
      {.num_kv_heads = 2, .head_dim_qk = 24, .head_dim_v = 8, .rotary_dim = 24},
      {.num_kv_heads = 5, .head_dim_qk = 128, .head_dim_v = 128, .rotary_dim = 128, .pair_layout = 1},
      {.num_kv_heads = 3, .head_dim_qk = 45, .head_dim_v = 33, .rotary_dim = 20, .rotary_offset = 6},
      {.num_kv_heads = 1, .head_dim_qk = 96, .head_dim_v = 256, .rotary_dim = 64, .rotary_offset = 32},
  };
  append_case c = {.shape = shapes[test_random_int(r, 0, 3)], .src_dtype = src_dtype, .rotating = rotating};
  int32_t order[SLOTS];
  c.shape = test_shape(c.shape);
  c.shape.q_dtype = SPINDLE_BF16;
  c.shape.kv_dtype = kv_dtype;
  c.shape.num_q_heads = 2 * c.shape.num_kv_heads;
  c.shape.key_state = rotating ? SPINDLE_KEYS_ROTATED : SPINDLE_KEYS_RAW;
  c.scaled = kv_dtype == SPINDLE_F8E4M3 && test_random_once_in(r, 2);
  c.scale_head = (int32_t)test_random_int(r, 0, 1);
  c.t[0] = make_tensor(r, &c, c.shape.head_dim_qk);
  c.t[1] = make_tensor(r, &c, c.shape.head_dim_v);
  test_random_permutation(r, order, SLOTS);
  for (int i = 0; i < ROWS; i++) {
    c.slot[i] = i % 5 == 4 ? -1 : order[i];
    c.index[i] = test_random_log(r, 1, (int64_t)1 << 40) - 1;
    c.position[i] = (int32_t)test_random_int(r, -1, 3); /* clamped */
  }
  c.slot[6] = SLOTS;
  c.slot[7] = INT64_MAX;
  return c;
}

static void append(spindle_context *context, append_case *c) {
  test_mirror m = test_mirror_open(context);
  spindle_positions *positions;
  spindle_append_args a = {
      .struct_size = sizeof a, .rows = ROWS, .src_dtype = c->src_dtype, .page_size = PAGE, .num_pages = PAGES};
  spindle_rows *from[] = {&a.k_new, &a.v_new};
  spindle_cache *to[] = {&a.k, &a.v};
  for (int x = 0; x < 2; x++) {
    tensor *t = &c->t[x];
    *from[x] = (spindle_rows){.head = t->head, .row = c->shape.num_kv_heads * t->head};
    from[x]->data = test_mirror_in(&m, t->from, t->from_bytes);
    *to[x] = (spindle_cache){.head = t->cache_head, .row = c->shape.num_kv_heads * t->cache_head, .scale_head = c->scale_head};
    to[x]->data = test_mirror_out(&m, t->cache, t->cache_bytes);
    if (c->scaled) to[x]->scale = test_mirror_in(&m, t->scale, sizeof t->scale);
  }
  a.slot = test_mirror_in(&m, c->slot, sizeof c->slot);
  a.index = test_mirror_in(&m, c->index, sizeof c->index);
  a.position = test_mirror_in(&m, c->position, sizeof c->position);
  test_ok(spindle_positions_create(&positions, context, &c->shape, 3));
  for (int s = 0; s < 3; s++) {
    spindle_position p = rules[s];
    p.struct_size = sizeof p;
    test_ok(spindle_positions_set(positions, s, &p, NULL));
  }
  test_ok(spindle_append(context, &c->shape, c->rotating ? positions : NULL, &a, NULL));
  test_mirror_fetch(&m, NULL);
  test_mirror_close(&m);
  spindle_positions_destroy(positions);
}

/* The row as it should be before it is rounded to the cache's type; what rotation may be off by in `slack`. */
static void expected(const append_case *c, int x, int row, int32_t head, double *want, double *slack) {
  const tensor *t = &c->t[x];
  spindle_position p = rules[c->position[row] < 0 ? 0 : c->position[row] > 2 ? 2 : c->position[row]];
  float in[256] = {0};
  double w[128], factor, scale = c->scaled ? (double)t->scale[head * c->scale_head] : 1;
  *slack = 0;
  for (int32_t d = 0; d < t->dim; d++)
    want[d] = in[d] = test_load(
        c->src_dtype, t->from + (size_t)((row * c->shape.num_kv_heads + head) * t->head + d) * test_dtype_bytes(c->src_dtype));
  if (x == 0 && c->rotating) {
    p.struct_size = sizeof p;
    test_ok(spindle_position_resolve(&p, &c->shape, 1, w, &factor, NULL));
    test_exact_rotate(&c->shape, w, c->index[row], 1, factor, NULL, in, want);
    *slack = 2e-3 / scale; /* 1e-6 of up to 300 normals */
  }
  for (int32_t d = 0; d < t->dim; d++) want[d] /= scale;
}

static void check_row(const append_case *c, int x, int row, int32_t head, const char *got) {
  double want[256], slack, unit = test_unit_roundoff(c->shape.kv_dtype);
  size_t bytes = test_dtype_bytes(c->shape.kv_dtype);
  bool f8 = c->shape.kv_dtype == SPINDLE_F8E4M3;
  expected(c, x, row, head, want, &slack);
  for (int32_t d = 0; d < c->t[x].dim; d++) {
    double y = (double)test_load(c->shape.kv_dtype, got + (size_t)d * bytes), z = f8 ? fmax(-448, fmin(448, want[d])) : want[d];
    if (slack == 0 && !c->scaled) { /* bit for bit */
      cr_assert(y == (double)test_round(c->shape.kv_dtype, (float)want[d]), "%s, row %d, head %d, channel %d: %g of %g",
                x ? "V" : "K", row, head, d, y, want[d]);
      continue;
    }
    double tolerance = 1.001 * unit * fabs(z) + slack + (f8 ? 0x1p-10 : 0) + 1e-7;
    cr_assert(fabs(y - z) <= tolerance, "%s, row %d, head %d, channel %d is %g, not %g", x ? "V" : "K", row, head, d, y, z);
  }
}

static void check(const append_case *c) {
  size_t bytes = test_dtype_bytes(c->shape.kv_dtype);
  for (int x = 0; x < 2; x++)
    for (int32_t s = 0; s < SLOTS; s++)
      for (int32_t h = 0; h < c->shape.num_kv_heads; h++) {
        const tensor *t = &c->t[x];
        const char *at = t->cache + (size_t)((s * c->shape.num_kv_heads + h) * t->cache_head) * bytes;
        int row = -1;
        for (int i = 0; i < ROWS; i++)
          if (c->slot[i] == s) row = i;
        if (row >= 0) check_row(c, x, row, h, at);
        for (size_t b = (size_t)(row >= 0 ? t->dim : 0) * bytes; b < (size_t)t->cache_head * bytes; b++)
          cr_assert_eq((unsigned char)at[b], 0xff, "%s, slot %d, head %d: byte %zu was written", x ? "V" : "K", s, h, b);
      }
}

static void check_case(test_random *r, spindle_context *context, int32_t src_dtype, int32_t kv_dtype, bool rotating) {
  append_case c = draw_case(r, src_dtype, kv_dtype, rotating);
  append(context, &c);
  check(&c);
  for (int x = 0; x < 2; x++) {
    free(c.t[x].from);
    free(c.t[x].cache);
  }
}

static spindle_context *open_device(void) {
  spindle_context *context;
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CUDA};
  test_ok(spindle_context_create(&context, &options));
  return context;
}

Test(append, converts_every_type) {
  test_random r = test_random_start();
  spindle_context *context = open_device();
  for (int32_t src = SPINDLE_F32; src <= SPINDLE_BF16; src++)
    for (int32_t kv = SPINDLE_F32; kv <= SPINDLE_F8E4M3; kv++)
      for (int round = 0; round < 3; round++) check_case(&r, context, src, kv, false);
  spindle_context_destroy(context);
}

Test(append, rotates_for_rotated_caches) {
  test_random r = test_random_start();
  spindle_context *context = open_device();
  for (int32_t src = SPINDLE_F32; src <= SPINDLE_BF16; src++)
    for (int32_t kv = SPINDLE_F32; kv <= SPINDLE_F8E4M3; kv++)
      for (int round = 0; round < 3; round++) check_case(&r, context, src, kv, true);
  spindle_context_destroy(context);
}
