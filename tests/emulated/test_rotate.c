/* spindle_rotate on the device: against 113-bit arithmetic up to position 2^40; types, strides, slots and the way back. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/dtypes.h"
#include "support/exact.h"
#include "support/methods.h"
#include "support/mirror.h"

#define MAX_INDEX ((int64_t)1 << 40)

enum { ROWS = 13, HEADS = 9 }; /* two lines a row, the second of one head; items that end early */

typedef struct table {
  spindle_context *context;
  spindle_positions *positions;
  spindle_shape shape;
} table;

static table make_table(spindle_shape shape, const spindle_position *slots, int32_t count) {
  table t = {.shape = test_shape(shape)};
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CUDA};
  if (!shape.rotary_dim) t.shape.rotary_dim = shape.head_dim_qk;
  test_ok(spindle_context_create(&t.context, &options));
  test_ok(spindle_positions_create(&t.positions, t.context, &t.shape, count));
  for (int32_t s = 0; s < count; s++) test_ok(spindle_positions_set(t.positions, s, &slots[s], NULL));
  return t;
}

static void free_table(table *t) {
  spindle_positions_destroy(t->positions);
  spindle_context_destroy(t->context);
}

/* The call on host arrays of so many elements; out NULL: in place. */
static void rotate(const table *t, spindle_rotate_args a, void *x, size_t x_count, void *out, size_t out_count) {
  test_mirror m = test_mirror_open(t->context);
  size_t bytes = test_dtype_bytes(a.dtype), rows = (size_t)a.rows;
  a.struct_size = sizeof a;
  a.x.data = out ? test_mirror_in(&m, x, x_count * bytes) : test_mirror_out(&m, x, x_count * bytes);
  a.out.data = out ? test_mirror_out(&m, out, out_count * bytes) : a.x.data;
  a.index = test_mirror_in(&m, a.index, rows * sizeof *a.index);
  a.position = test_mirror_in(&m, a.position, rows * sizeof *a.position);
  a.n = test_mirror_in(&m, a.n, rows * sizeof *a.n);
  test_ok(spindle_rotate(t->context, &t->shape, t->positions, &a, NULL));
  test_mirror_fetch(&m, NULL);
  test_mirror_close(&m);
}

/* Pairs on the unit circle: what cos and sin are off by is what the result is off by. */
static void draw_unit_pairs(test_random *r, const spindle_shape *s, float *row) {
  int32_t pairs = s->rotary_dim / 2;
  for (int32_t c = 0; c < s->head_dim_qk; c++) row[c] = (float)test_random_normal(r);
  for (int32_t t = 0; t < pairs; t++) {
    int32_t a = s->rotary_offset + (s->pair_layout == SPINDLE_PAIRS_HALF ? t : 2 * t);
    int32_t b = s->pair_layout == SPINDLE_PAIRS_HALF ? a + pairs : a + 1;
    double angle = test_random_real(r, 0, 6.283185307179586);
    row[a] = (float)cos(angle);
    row[b] = (float)sin(angle);
  }
}

/* Returns the worst error, in units of A. */
static double check_rule(test_random *r, int32_t rope, spindle_shape shape) {
  spindle_position p = test_rule(rope, shape.rotary_dim ? shape.rotary_dim : shape.head_dim_qk);
  table t = make_table(shape, &p, 1);
  int32_t dim = t.shape.head_dim_qk, stride = (dim + 3) / 4 * 4, count = ROWS * HEADS * stride; /* strides are whole 16 bytes */
  float *x = test_memory((size_t)count * sizeof *x), *out = test_memory((size_t)count * sizeof *out);
  int64_t index[ROWS], n[ROWS];
  double w[256], want[512], factor, worst = 0;
  for (int32_t i = 0; i < ROWS; i++) {
    index[i] = i % 2 ? test_random_int(r, 0, MAX_INDEX - 1) : test_random_log(r, 1, 100000) - 1;
    n[i] = test_random_int(r, 1, 400);
  }
  for (int32_t i = 0; i < ROWS * HEADS; i++) draw_unit_pairs(r, &t.shape, x + i * stride);
  spindle_rows each = {.row = HEADS * stride, .head = stride};
  rotate(
      &t,
      (spindle_rotate_args){.x = each, .out = each, .rows = ROWS, .heads = HEADS, .dtype = SPINDLE_F32, .index = index, .n = n},
      x, (size_t)count, out, (size_t)count);
  for (int32_t i = 0; i < ROWS * HEADS; i++) {
    test_ok(spindle_position_resolve(&p, &t.shape, n[i / HEADS], w, &factor, NULL));
    test_exact_rotate(&t.shape, w, index[i / HEADS], 1, factor, NULL, x + i * stride, want);
    for (int32_t c = 0; c < dim; c++) {
      bool turns = c >= t.shape.rotary_offset && c < t.shape.rotary_offset + t.shape.rotary_dim;
      double error = fabs((double)out[i * stride + c] - want[c]) / factor;
      cr_assert(turns ? error <= 1e-6 : error == 0, "rope %d at %lld: channel %d is off by %g", rope, (long long)index[i / HEADS],
                c, error);
      worst = fmax(worst, error);
    }
  }
  free_table(&t);
  free(x);
  free(out);
  return worst;
}

Test(rotate, is_within_1e_6_up_to_2_40) {
  test_random r = test_random_start();
  static const spindle_shape shapes[] = {
      {.q_dtype = SPINDLE_BF16, .num_q_heads = 1, .head_dim_qk = 64},
      {.q_dtype = SPINDLE_BF16, .num_q_heads = 1, .head_dim_qk = 32, .pair_layout = 1},
      {.q_dtype = SPINDLE_BF16, .num_q_heads = 1, .head_dim_qk = 47, .rotary_dim = 20, .rotary_offset = 13, .pair_layout = 1},
      {.q_dtype = SPINDLE_BF16, .num_q_heads = 1, .head_dim_qk = 80, .rotary_dim = 22},
  };
  double worst = 0;
  for (int32_t rope = 0; rope < TEST_NUM_RULES; rope++)
    for (int s = rope % 2; s < 4 && rope != SPINDLE_ROPE_XPOS; s += 2) worst = fmax(worst, check_rule(&r, rope, shapes[s]));
  fprintf(stderr, "worst error: %.2g\n", worst);
  cr_assert_gt(worst, 1e-8);
}

Test(rotate, undoes_itself_in_place) {
  test_random r = test_random_start();
  static const int32_t dtypes[] = {SPINDLE_F32, SPINDLE_F16, SPINDLE_BF16};
  for (int d = 0; d < 3; d++)
    for (int32_t layout = 0; layout < 2; layout++) {
      spindle_position p = test_rule(SPINDLE_ROPE_YARN, 48);
      table t = make_table((spindle_shape){.q_dtype = SPINDLE_F16,
                                           .num_q_heads = 1,
                                           .head_dim_qk = 64,
                                           .rotary_dim = 48,
                                           .rotary_offset = 8,
                                           .pair_layout = layout},
                           &p, 1);
      char x[ROWS * HEADS * 64 * 4], before[sizeof x];
      int64_t index[ROWS];
      double unit = test_unit_roundoff(dtypes[d]);
      size_t bytes = test_dtype_bytes(dtypes[d]);
      for (int i = 0; i < ROWS * HEADS * 64; i++) test_store(dtypes[d], x + (size_t)i * bytes, (float)test_random_normal(&r));
      for (int i = 0; i < ROWS; i++) index[i] = test_random_int(&r, -MAX_INDEX, MAX_INDEX);
      memcpy(before, x, sizeof x);
      spindle_rotate_args a = {.rows = ROWS, .heads = HEADS, .dtype = dtypes[d], .index = index};
      rotate(&t, a, x, ROWS * HEADS * 64, NULL, 0);
      cr_assert(memcmp(x, before, (size_t)ROWS * HEADS * 64 * bytes));
      a.inverse = 1;
      rotate(&t, a, x, ROWS * HEADS * 64, NULL, 0);
      for (int i = 0; i < ROWS * HEADS * 64; i++) {
        double got = (double)test_load(dtypes[d], x + (size_t)i * bytes),
               want = (double)test_load(dtypes[d], before + (size_t)i * bytes);
        cr_assert(fabs(got - want) <= 20 * unit + 1.2e-5, "dtype %d: element %d is %g, was %g", dtypes[d], i, got, want);
      }
      free_table(&t);
    }
}

/* Slots beyond the table and indices beyond 2^40 are clamped; elements between rows stay. */
Test(rotate, reads_each_row_s_slot_and_strides) {
  test_random r = test_random_start();
  spindle_position slots[] = {test_rule(SPINDLE_ROPE_DEFAULT, 32), test_rule(SPINDLE_ROPE_YARN, 32),
                              test_rule(SPINDLE_ROPE_DYNAMIC_NTK, 32)};
  table t = make_table((spindle_shape){.q_dtype = SPINDLE_BF16, .num_q_heads = 2, .head_dim_qk = 32}, slots, 3);
  int64_t index[] = {5, 6, -7, MAX_INDEX + 5, 9}, n[] = {1, 1, 1, 300, 1000};
  int32_t slot[] = {1, -4, 0, 1, 77};
  uint16_t *x = test_memory(5 * 80 * sizeof *x), *out = test_memory(2 * 5 * 48 * sizeof *out); /* [5][2][40] in, [2][5][48] out */
  double w[16], want[32], factor;
  float in[32];
  for (int i = 0; i < 5 * 80; i++) test_store(SPINDLE_BF16, &x[i], (float)test_random_normal(&r));
  spindle_rotate_args a = {.rows = 5,
                           .heads = 2,
                           .dtype = SPINDLE_BF16,
                           .x = {.row = 80, .head = 40},
                           .out = {.row = 48, .head = 240},
                           .index = index,
                           .position = slot,
                           .n = n};
  rotate(&t, a, x, 5 * 80, out, 2 * 5 * 48);
  for (int i = 0; i < 5; i++)
    for (int h = 0; h < 2; h++) {
      int64_t at = index[i] > MAX_INDEX ? MAX_INDEX : index[i];
      int32_t s = slot[i] < 0 ? 0 : slot[i] > 2 ? 2 : slot[i];
      for (int c = 0; c < 32; c++) in[c] = test_load(SPINDLE_BF16, &x[i * 80 + h * 40 + c]);
      test_ok(spindle_position_resolve(&slots[s], &t.shape, n[i], w, &factor, NULL));
      test_exact_rotate(&t.shape, w, at, 1, factor, NULL, in, want);
      for (int c = 0; c < 48; c++) {
        double got = (double)test_load(SPINDLE_BF16, &out[h * 240 + i * 48 + c]);
        if (c >= 32) cr_assert_eq(out[h * 240 + i * 48 + c], 0xffff, "wrote between rows");
        if (c < 32)
          cr_assert(fabs(got - want[c]) <= 1e-5 + 0x1p-8 * fabs(want[c]), "row %d, head %d, channel %d is %g, not %g", i, h, c,
                    got, want[c]);
      }
    }
  free_table(&t);
  free(x);
  free(out);
}
