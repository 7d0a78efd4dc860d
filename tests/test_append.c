/* spindle_append: rows land in their slots, converted and rotated, and nothing else is written. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/dtypes.h"
#include "support/methods.h"

enum { PAGES = 6, PAGE = 8, HEADS = 2, DIM = 24, DIM_V = 8, ROWS = 17 };

typedef struct cache {
  char *k, *v; /* [PAGES][PAGE][HEADS][DIM], V in f32 needs no padding either */
  size_t k_bytes, v_bytes;
} cache;

static cache make_cache(int32_t dtype) {
  size_t slots = PAGES * PAGE * HEADS * test_dtype_bytes(dtype);
  cache c = {.k_bytes = slots * 32, .v_bytes = slots * 16}; /* heads padded to 16 bytes of any dtype */
  c.k = test_memory(c.k_bytes);
  c.v = test_memory(c.v_bytes);
  return c;
}

static void free_cache(cache *c) {
  free(c->k);
  free(c->v);
}

typedef struct rows {
  float k[ROWS][HEADS][DIM], v[ROWS][HEADS][DIM_V];
  int64_t slot[ROWS], index[ROWS];
} rows;

/* Distinct slots in any order; every fifth row is padding, and one points far outside. */
static rows *draw_rows(test_random *r) {
  rows *x = test_memory(sizeof *x);
  int32_t order[PAGES * PAGE];
  test_random_permutation(r, order, PAGES * PAGE);
  for (int i = 0; i < ROWS * HEADS * DIM; i++) (&x->k[0][0][0])[i] = 4 * (float)test_random_normal(r);
  for (int i = 0; i < ROWS * HEADS * DIM_V; i++) (&x->v[0][0][0])[i] = 4 * (float)test_random_normal(r);
  for (int i = 0; i < ROWS; i++) {
    x->slot[i] = i % 5 == 4 ? -1 : order[i];
    x->index[i] = test_random_log(r, 1, 100000);
  }
  x->slot[6] = (int64_t)1 << 40;
  return x;
}

/* Every slot holds the row that was sent there, else what it held. */
static void check_cache(const char *what, const char *cache, int32_t dtype, int32_t dim, int64_t head, const rows *x,
                        const float *sent, const float *scale, double tolerance) {
  size_t bytes = test_dtype_bytes(dtype);
  for (int32_t s = 0; s < PAGES * PAGE; s++) {
    int row = -1;
    for (int i = 0; i < ROWS; i++)
      if (x->slot[i] == s) row = i;
    for (int32_t h = 0; h < HEADS; h++)
      for (int32_t d = 0; d < head; d++) {
        const char *at = cache + ((size_t)(s * HEADS + h) * (size_t)head + (size_t)d) * bytes;
        if (row < 0 || d >= dim) {
          for (size_t b = 0; b < bytes; b++)
            cr_assert_eq((unsigned char)at[b], 0xff, "%s: wrote slot %d, channel %d", what, s, d);
          continue;
        }
        double want = (double)sent[(row * HEADS + h) * dim + d],
               got = (double)test_load(dtype, at) * (scale ? (double)scale[h] : 1);
        cr_assert(fabs(got - want) <= tolerance + 1.01 * test_unit_roundoff(dtype) * fabs(want),
                  "%s: slot %d, head %d, channel %d is %g, not %g", what, s, h, d, got, want);
      }
  }
}

static spindle_append_args args_for(rows *x, cache *c) {
  spindle_append_args a = {.struct_size = sizeof a,
                           .rows = ROWS,
                           .src_dtype = SPINDLE_F32,
                           .page_size = PAGE,
                           .num_pages = PAGES,
                           .k_new = {.data = x->k},
                           .v_new = {.data = x->v},
                           .slot = x->slot};
  a.k = (spindle_cache){.data = c->k, .row = HEADS * 32, .head = 32};
  a.v = (spindle_cache){.data = c->v, .row = HEADS * 16, .head = 16};
  return a;
}

static void check_raw(test_random *r, int32_t backend, int32_t dtype) {
  spindle_shape shape = {.struct_size = sizeof shape,
                         .q_dtype = SPINDLE_F32,
                         .kv_dtype = dtype,
                         .num_q_heads = 4,
                         .num_kv_heads = HEADS,
                         .head_dim_qk = DIM,
                         .head_dim_v = DIM_V};
  spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
  spindle_context *context;
  const float k_scale[] = {0.05f, 0.1f}, v_scale[] = {0.07f, 0.07f};
  cache c = make_cache(dtype);
  rows *x = draw_rows(r);
  spindle_append_args a = args_for(x, &c);
  bool narrow = dtype == SPINDLE_F8E4M3;
  if (narrow) {
    a.k.scale = k_scale;
    a.k.scale_head = 1;
    a.v.scale = v_scale;
  }
  test_ok(spindle_context_create(&context, &options));
  test_ok(spindle_append(context, &shape, NULL, &a, NULL));
  check_cache("k", c.k, dtype, DIM, 32, x, &x->k[0][0][0], narrow ? k_scale : NULL, narrow ? 1e-3 * 0.1 : 1e-7);
  check_cache("v", c.v, dtype, DIM_V, 16, x, &x->v[0][0][0], narrow ? v_scale : NULL, narrow ? 1e-3 * 0.1 : 1e-7);
  spindle_context_destroy(context);
  free_cache(&c);
  free(x);
}

Test(append, writes_raw_rows_into_their_slots) {
  test_random r = test_random_start();
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++)
    for (int32_t dtype = SPINDLE_F32; dtype <= SPINDLE_F8E4M3; dtype++) check_raw(&r, backend, dtype);
}

/* Stored as value / scale, and what is too large as the largest number there is. */
Test(append, saturates_f8) {
  spindle_shape shape = {
      .struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .kv_dtype = SPINDLE_F8E4M3, .num_q_heads = 1, .head_dim_qk = 16};
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
    spindle_context *context;
    static const float value[] = {1e9f,    -1e9f,  447, 449, 464, -470,     0,         0.001f,
                                  0.0009f, 1e-30f, 240, 17,  19,  INFINITY, -INFINITY, -0.25f};
    static const float want[] = {448, -448, 448, 448, 448, -448, 0, 0.001953125f, 0, 0, 240, 16, 20, 448, -448, -0.25f};
    float *k_new = test_memory(sizeof value), *v_new = test_memory(sizeof value);
    unsigned char *k = test_memory(16), *v = test_memory(16);
    int64_t slot = 0;
    memcpy(k_new, value, sizeof value);
    memcpy(v_new, value, sizeof value);
    spindle_append_args a = {.struct_size = sizeof a,
                             .rows = 1,
                             .page_size = 1,
                             .num_pages = 1,
                             .k_new = {.data = k_new},
                             .v_new = {.data = v_new},
                             .k = {.data = k},
                             .v = {.data = v},
                             .slot = &slot};
    test_ok(spindle_context_create(&context, &options));
    test_ok(spindle_append(context, &shape, NULL, &a, NULL));
    for (int d = 0; d < 16; d++)
      cr_assert(test_load(SPINDLE_F8E4M3, &k[d]) == want[d], "backend %d: %g became %g, not %g", backend, (double)value[d],
                (double)test_load(SPINDLE_F8E4M3, &k[d]), (double)want[d]);
    cr_assert(!memcmp(k, v, 16));
    spindle_context_destroy(context);
    free(k_new);
    free(v_new);
    free(k);
    free(v);
  }
}

/* With a table, keys are those that spindle_rotate would give; values are as they came. */
Test(append, rotates_on_the_way) {
  test_random r = test_random_start();
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    spindle_shape shape = {.struct_size = sizeof shape,
                           .q_dtype = SPINDLE_F32,
                           .kv_dtype = SPINDLE_F16,
                           .num_q_heads = 4,
                           .num_kv_heads = HEADS,
                           .head_dim_qk = DIM,
                           .head_dim_v = DIM_V,
                           .rotary_dim = 16,
                           .rotary_offset = 4,
                           .key_state = SPINDLE_KEYS_ROTATED};
    spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
    spindle_context *context;
    spindle_positions *positions;
    spindle_position slots[2] = {test_rule(SPINDLE_ROPE_YARN, 16), test_rule(SPINDLE_ROPE_LLAMA3, 16)};
    cache c = make_cache(SPINDLE_F16);
    rows *x = draw_rows(&r), *rotated = draw_rows(&r);
    int32_t position[ROWS];
    for (int i = 0; i < ROWS; i++) position[i] = i % 2;
    test_ok(spindle_context_create(&context, &options));
    test_ok(spindle_positions_create(&positions, context, &shape, 2));
    for (int s = 0; s < 2; s++) test_ok(spindle_positions_set(positions, s, &slots[s], NULL));
    spindle_append_args a = args_for(x, &c);
    a.index = x->index;
    a.position = position;
    test_ok(spindle_append(context, &shape, positions, &a, NULL));
    spindle_rotate_args rotate = {.struct_size = sizeof rotate,
                                  .rows = ROWS,
                                  .heads = HEADS,
                                  .x = {.data = x->k},
                                  .out = {.data = rotated->k},
                                  .index = x->index,
                                  .position = position};
    test_ok(spindle_rotate(context, &shape, positions, &rotate, NULL));
    check_cache("rotated k", c.k, SPINDLE_F16, DIM, 32, x, &rotated->k[0][0][0], NULL, 1e-6);
    check_cache("v", c.v, SPINDLE_F16, DIM_V, 16, x, &x->v[0][0][0], NULL, 1e-6);
    spindle_positions_destroy(positions);
    spindle_context_destroy(context);
    free_cache(&c);
    free(x);
    free(rotated);
  }
}

Test(append, of_no_rows_touches_nothing) {
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = 1, .head_dim_qk = 16};
  spindle_append_args a = {.struct_size = sizeof a, .page_size = 1, .num_pages = 1};
  spindle_context *context;
  test_ok(spindle_context_create(&context, NULL));
  test_ok(spindle_append(context, &shape, NULL, &a, NULL));
  spindle_context_destroy(context);
}
