/* Partial results over disjoint keys merge to the whole: against the definition in double, and over shards of real attention. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/dtypes.h"
#include "support/methods.h"

/* ---- Against the definition ---- */

enum { PARTS = 5, ROWS = 7, HEADS = 3, DIM = 20 };

typedef struct parts {
  float o[PARTS][ROWS][HEADS][DIM], lse[PARTS][ROWS][HEADS], sinks[HEADS];
} parts;

/* Some parts saw nothing: LSE = -inf, and what their O holds, NaN for one, must not count. Row 0 nobody saw. */
static void draw_parts(test_random *r, parts *p, double spread) {
  for (int i = 0; i < PARTS * ROWS * HEADS; i++) {
    bool blind = i / HEADS % ROWS == 0 || test_random_once_in(r, 4);
    (&p->lse[0][0][0])[i] = blind ? -INFINITY : (float)(spread * test_random_normal(r));
    for (int d = 0; d < DIM; d++) (&p->o[0][0][0][0])[i * DIM + d] = blind ? NAN : (float)test_random_normal(r);
  }
  for (int h = 0; h < HEADS; h++) p->sinks[h] = (float)test_random_normal(r);
}

static double whole_lse(const parts *p, int row, int h, bool sinks) {
  double most = sinks ? (double)p->sinks[h] : -INFINITY, sum = 0;
  for (int x = 0; x < PARTS; x++) most = fmax(most, (double)p->lse[x][row][h]);
  if (most == -INFINITY) return -INFINITY;
  for (int x = 0; x < PARTS; x++) sum += exp((double)p->lse[x][row][h] - most);
  if (sinks) sum += exp((double)p->sinks[h] - most);
  return most + log(sum);
}

static double weight(const parts *p, int part, int row, int h, bool sinks) {
  return p->lse[part][row][h] == -INFINITY ? 0 : exp((double)p->lse[part][row][h] - whole_lse(p, row, h, sinks));
}

static double whole_o(const parts *p, int row, int h, int d, bool sinks) {
  double sum = 0;
  for (int x = 0; x < PARTS; x++)
    if (weight(p, x, row, h, sinks) > 0) sum += weight(p, x, row, h, sinks) * (double)p->o[x][row][h][d];
  return sum;
}

static spindle_combine_args args_for(parts *p, bool sinks) {
  spindle_combine_args a = {.struct_size = sizeof a,
                            .parts = PARTS,
                            .rows = ROWS,
                            .num_q_heads = HEADS,
                            .head_dim_v = DIM,
                            .part_o = {.data = p->o},
                            .part_o_stride = ROWS * HEADS * DIM,
                            .part_lse = {.data = &p->lse[0][0][0]},
                            .part_lse_stride = ROWS * HEADS,
                            .sink_logits = sinks ? p->sinks : NULL};
  return a;
}

static void check_whole(const parts *p, bool sinks, float o[ROWS][HEADS][DIM], float lse[ROWS][HEADS], double tolerance) {
  for (int row = 0; row < ROWS; row++)
    for (int h = 0; h < HEADS; h++) {
      double want = whole_lse(p, row, h, sinks);
      cr_assert(lse[row][h] == want || fabs((double)lse[row][h] - want) < 1e-5 + 1e-6 * fabs(want), "LSE is %g, not %g",
                (double)lse[row][h], want);
      for (int d = 0; d < DIM; d++)
        cr_assert(fabs((double)o[row][h][d] - whole_o(p, row, h, d, sinks)) < tolerance, "O is %g, not %g", (double)o[row][h][d],
                  whole_o(p, row, h, d, sinks));
    }
}

static void with_each_backend(void (*check)(spindle_context *, test_random *)) {
  test_random r = test_random_start();
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
    spindle_context *context;
    test_ok(spindle_context_create(&context, &options));
    for (int round = 0; round < 30; round++) check(context, &r);
    spindle_context_destroy(context);
  }
}

static void check_merge(spindle_context *context, test_random *r) {
  _Alignas(16) static parts p;
  _Alignas(16) static float o[ROWS][HEADS][DIM], lse[ROWS][HEADS];
  bool sinks = test_random_once_in(r, 2);
  draw_parts(r, &p, test_random_once_in(r, 2) ? 1 : 300);
  spindle_combine_args a = args_for(&p, sinks);
  a.o.data = o;
  a.lse.data = &lse[0][0];
  test_ok(spindle_combine(context, &a, NULL));
  check_whole(&p, sinks, o, lse, 1e-5);
}

Test(combine, merges_as_defined) { with_each_backend(check_merge); }

static void check_in_place(spindle_context *context, test_random *r) {
  _Alignas(16) static parts p, before;
  draw_parts(r, &p, 2);
  before = p;
  spindle_combine_args a = args_for(&p, false);
  a.o.data = p.o;
  a.lse.data = &p.lse[0][0][0];
  test_ok(spindle_combine(context, &a, NULL));
  check_whole(&before, false, p.o[0], p.lse[0], 1e-5);
  cr_assert(!memcmp(p.o[1], before.o[1], sizeof p.o - sizeof p.o[0]), "other parts were written");
}

Test(combine, works_in_place) { with_each_backend(check_in_place); }

static void check_scaled_sum(spindle_context *context, test_random *r) {
  _Alignas(16) static parts p;
  _Alignas(16) static float o[ROWS][HEADS][DIM], sum[ROWS][HEADS][DIM], lse[ROWS][HEADS];
  bool sinks = test_random_once_in(r, 2);
  draw_parts(r, &p, 2);
  memset(sum, 0, sizeof sum);
  for (int own = 0; own < PARTS; own++) {
    spindle_combine_args a = args_for(&p, sinks);
    a.own_part = own;
    a.part_o.data = p.o[own];
    a.o.data = o;
    a.lse.data = &lse[0][0];
    test_ok(spindle_combine_scale(context, &a, NULL));
    for (int x = 0; x < ROWS * HEADS * DIM; x++) (&sum[0][0][0])[x] += (&o[0][0][0])[x];
  }
  check_whole(&p, sinks, sum, lse, 1e-5);
}

Test(combine, scaled_parts_sum_to_the_whole) { with_each_backend(check_scaled_sum); }

/* O head-major, parts far apart, and bf16 at both ends. */
static void check_layouts(spindle_context *context, test_random *r) {
  _Alignas(16) static parts p;
  _Alignas(16) static uint16_t part_o[PARTS][HEADS][ROWS][24], o[HEADS][ROWS][24];
  _Alignas(16) static float out[ROWS][HEADS][DIM], lse[HEADS][ROWS], lse_rows[ROWS][HEADS];
  draw_parts(r, &p, 2);
  for (int x = 0; x < PARTS; x++)
    for (int row = 0; row < ROWS; row++)
      for (int h = 0; h < HEADS; h++)
        for (int d = 0; d < DIM; d++) {
          p.o[x][row][h][d] = test_round(SPINDLE_BF16, p.o[x][row][h][d]);
          test_store(SPINDLE_BF16, &part_o[x][h][row][d], p.o[x][row][h][d]);
        }
  spindle_combine_args a = args_for(&p, false);
  a.part_dtype = SPINDLE_BF16;
  a.part_o = (spindle_rows){part_o, 0, 24, ROWS * 24};
  a.part_o_stride = HEADS * ROWS * 24;
  a.o = (spindle_rows){o, 0, 24, ROWS * 24};
  a.lse = (spindle_lse){&lse[0][0], 0, 1, ROWS};
  test_ok(spindle_combine(context, &a, NULL));
  for (int row = 0; row < ROWS; row++)
    for (int h = 0; h < HEADS; h++) {
      lse_rows[row][h] = lse[h][row];
      for (int d = 0; d < DIM; d++) out[row][h][d] = test_load(SPINDLE_BF16, &o[h][row][d]);
    }
  check_whole(&p, false, out, lse_rows, 0.02);
}

Test(combine, takes_any_layout_and_dtype) { with_each_backend(check_layouts); }

/* ---- Shards of real attention ---- */

enum { RANKS = 4, KEYS = 333, QUERIES = 50 };
static const spindle_shape shape = {.num_q_heads = 4, .num_kv_heads = 2, .head_dim_qk = 32};

/* The keys that rank r holds: contiguous slices, or tokens dealt out `size` at a time. */
static int32_t shard_keys(int32_t rank, int32_t size, int32_t *keys) {
  int32_t count = 0, slice = (KEYS + RANKS - 1) / RANKS;
  for (int32_t j = 0; j < KEYS; j++)
    if ((size ? j / size % RANKS : j / slice) == rank) keys[count++] = j;
  return count;
}

static test_request shard_of(const test_request *whole, int32_t rank, int32_t size) {
  int32_t keys[KEYS], count = shard_keys(rank, size, keys), row = 2 * 32;
  test_request part = test_request_copy(whole, &shape);
  for (int32_t s = 0; s < count; s++) {
    memcpy(part.k + s * row, whole->k + keys[s] * row, (size_t)row * sizeof(float));
    memcpy(part.v + s * row, whole->v + keys[s] * row, (size_t)row * sizeof(float));
  }
  part.kv_len = count;
  part.kv_index = size ? 0 : keys[0];
  return part;
}

static void check_shards(test_random *r, int32_t size, int32_t page_size, const float *sinks) {
  test_setup setup = {
      .backend = SPINDLE_BACKEND_CPU, .shape = shape, .page_size = page_size, .args = {.sink_logits = sinks}, .random = r};
  spindle_position p = test_any_method(r, 32);
  p.s2_wrap = 0;
  test_request whole = test_request_make(r, &shape, p, QUERIES, KEYS, 1), merged = test_request_copy(&whole, &shape);
  const size_t o_part = QUERIES * 4 * 32, lse_part = QUERIES * 4;
  float *o = test_memory(RANKS * o_part * sizeof *o), *lse = test_memory(RANKS * lse_part * sizeof *lse);
  test_attend(&setup, &whole, 1);
  setup.partial = true;
  for (int32_t rank = 0; rank < RANKS; rank++) {
    test_request part = shard_of(&whole, rank, size);
    if (size) {
      setup.shard_count = RANKS;
      setup.shard_size = size;
      setup.shard_rank = rank;
    }
    test_attend(&setup, &part, 1);
    memcpy(o + (size_t)rank * o_part, part.o, o_part * sizeof *o);
    memcpy(lse + (size_t)rank * lse_part, part.lse, lse_part * sizeof *lse);
    test_request_free(&part);
  }
  spindle_context *context;
  test_ok(spindle_context_create(&context, NULL));
  spindle_combine_args a = {.struct_size = sizeof a,
                            .parts = RANKS,
                            .rows = QUERIES,
                            .num_q_heads = 4,
                            .head_dim_v = 32,
                            .part_o = {.data = o},
                            .part_o_stride = (int64_t)o_part,
                            .part_lse = {.data = lse},
                            .part_lse_stride = (int64_t)lse_part,
                            .o = {.data = o},
                            .lse = {.data = lse},
                            .sink_logits = sinks};
  test_ok(spindle_combine(context, &a, NULL));
  memcpy(merged.o, o, o_part * sizeof *o);
  memcpy(merged.lse, lse, lse_part * sizeof *lse);
  char text[300];
  snprintf(text, sizeof text, "%d shards of %d tokens, pages of %d, %s", RANKS, size, page_size, test_method_name(&p));
  test_requests_close(text, &shape, &merged, &whole, 2e-5);
  spindle_context_destroy(context);
  test_request_free(&whole);
  test_request_free(&merged);
  free(o);
  free(lse);
}

Test(combine, shards_equal_the_whole) {
  test_random r = test_random_start();
  const float sinks[] = {1, -1, 3, 0};
  static const int32_t sizes[] = {0, 1, 16, 7}, pages[] = {0, 16, 5};
  for (int round = 0; round < 48; round++) check_shards(&r, sizes[round % 4], pages[round % 3], round % 2 ? sinks : NULL);
}
