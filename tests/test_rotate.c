/* spindle_rotate: A R(index) x as written, its inverse, and exactness far out. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/dtypes.h"
#include "support/methods.h"

enum { ROWS = 40, HEADS = 3 };

typedef struct table {
  spindle_context *context;
  spindle_positions *positions;
  spindle_shape shape;
} table;

static table make_table(int32_t backend, spindle_shape shape, const spindle_position *slots, int32_t count) {
  table t = {.shape = test_shape(shape)};
  spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
  test_ok(spindle_context_create(&t.context, &options));
  test_ok(spindle_positions_create(&t.positions, t.context, &t.shape, count));
  for (int32_t s = 0; s < count; s++) test_ok(spindle_positions_set(t.positions, s, &slots[s], NULL));
  return t;
}

static void free_table(table *t) {
  spindle_positions_destroy(t->positions);
  spindle_context_destroy(t->context);
}

static float *normals(test_random *r, int32_t count) {
  float *x = test_memory((size_t)count * sizeof *x);
  for (int32_t i = 0; i < count; i++) x[i] = (float)test_random_normal(r);
  return x;
}

/* The definition in long double, one row of one head. Angles at index * w are reduced exactly enough up to 2^24. */
static void rotate_by_hand(const table *t, const spindle_position *p, int64_t index, int64_t n, const float *x, double *out) {
  const spindle_shape *s = &t->shape;
  double w[256], factor;
  int32_t d = s->rotary_dim ? s->rotary_dim : (s->head_dim_qk - s->rotary_offset) / 2 * 2;
  test_ok(spindle_position_resolve(p, s, n, w, &factor, NULL));
  for (int32_t c = 0; c < s->head_dim_qk; c++) out[c] = (double)x[c];
  for (int32_t pair = 0; pair < d / 2; pair++) {
    int32_t a = s->rotary_offset + (s->pair_layout == SPINDLE_PAIRS_HALF ? pair : 2 * pair);
    int32_t b = s->pair_layout == SPINDLE_PAIRS_HALF ? a + d / 2 : a + 1;
    long double angle = (long double)index * (long double)w[pair];
    out[a] = factor * (double)((long double)x[a] * cosl(angle) - (long double)x[b] * sinl(angle));
    out[b] = factor * (double)((long double)x[b] * cosl(angle) + (long double)x[a] * sinl(angle));
  }
}

static void check_rule(test_random *r, int32_t backend, int32_t rope, spindle_shape shape) {
  int32_t d = shape.rotary_dim ? shape.rotary_dim : shape.head_dim_qk;
  spindle_position p = test_rule(rope, d);
  table t = make_table(backend, shape, &p, 1);
  int32_t row = HEADS * shape.head_dim_qk;
  float *x = normals(r, ROWS * row), *out = test_memory((size_t)(ROWS * row) * sizeof *out);
  int64_t index[ROWS], n[ROWS];
  double want[512];
  for (int32_t i = 0; i < ROWS; i++) {
    index[i] = test_random_log(r, 1, 1 << 24) - 1;
    n[i] = test_random_int(r, 1, 400);
  }
  spindle_rotate_args a = {
      .struct_size = sizeof a, .rows = ROWS, .heads = HEADS, .x = {.data = x}, .out = {.data = out}, .index = index, .n = n};
  test_ok(spindle_rotate(t.context, &t.shape, t.positions, &a, NULL));
  for (int32_t i = 0; i < ROWS * HEADS; i++) {
    rotate_by_hand(&t, &p, index[i / HEADS], n[i / HEADS], x + i * shape.head_dim_qk, want);
    for (int32_t c = 0; c < shape.head_dim_qk; c++) {
      double got = (double)out[i * shape.head_dim_qk + c];
      cr_assert(fabs(got - want[c]) < 1e-5, "rope %d at %lld: channel %d is %.9g, not %.9g", rope, (long long)index[i / HEADS], c,
                got, want[c]);
    }
  }
  a.inverse = 1;
  a.x.data = out; /* and back, in place */
  test_ok(spindle_rotate(t.context, &t.shape, t.positions, &a, NULL));
  test_close("back", out, x, ROWS, HEADS, shape.head_dim_qk, 1e-5);
  free_table(&t);
  free(x);
  free(out);
}

Test(rotate, follows_the_definition_and_back) {
  test_random r = test_random_start();
  static const spindle_shape shapes[] = {
      {.num_q_heads = HEADS, .head_dim_qk = 32},
      {.num_q_heads = HEADS, .head_dim_qk = 32, .pair_layout = 1},
      {.num_q_heads = HEADS, .head_dim_qk = 48, .rotary_dim = 20, .rotary_offset = 12, .pair_layout = 1},
      {.num_q_heads = HEADS, .head_dim_qk = 128, .rotary_dim = 22},
  };
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++)
    for (int32_t rope = 0; rope < TEST_NUM_RULES; rope++)
      for (int s = 0; s < 4 && rope != SPINDLE_ROPE_XPOS; s++) check_rule(&r, backend, rope, shapes[s]);
}

/* A rotation far out undone one token later is the rotation by one token: what float angles lose by position 1e6. */
Test(rotate, is_exact_up_to_2_40) {
  test_random r = test_random_start();
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    spindle_position p = test_rule(SPINDLE_ROPE_DEFAULT, 128);
    table t = make_table(backend, (spindle_shape){.num_q_heads = 1, .head_dim_qk = 128}, &p, 1);
    for (int round = 0; round < 300; round++) {
      float *x = normals(&r, 128), far[128], near[128];
      int64_t index = test_random_int(&r, 100, ((int64_t)1 << 40) - 1), back = index - test_random_int(&r, 0, 99),
              rest = index - back;
      spindle_rotate_args a = {
          .struct_size = sizeof a, .rows = 1, .heads = 1, .x = {.data = x}, .out = {.data = x}, .index = &index};
      float *copy = test_memory(sizeof far);
      memcpy(copy, x, sizeof far);
      test_ok(spindle_rotate(t.context, &t.shape, t.positions, &a, NULL));
      a.index = &back;
      a.inverse = 1;
      test_ok(spindle_rotate(t.context, &t.shape, t.positions, &a, NULL));
      memcpy(far, x, sizeof far);
      a = (spindle_rotate_args){
          .struct_size = sizeof a, .rows = 1, .heads = 1, .x = {.data = copy}, .out = {.data = copy}, .index = &rest};
      test_ok(spindle_rotate(t.context, &t.shape, t.positions, &a, NULL));
      memcpy(near, copy, sizeof near);
      test_close("far out", far, near, 1, 1, 128, 1.2e-5); /* three rotations of numbers up to 4, 1e-6 each */
      free(x);
      free(copy);
    }
    free_table(&t);
  }
}

/* The bits of a rotated key depend on its position alone: not on the rows beside it, nor on where a run of rows begins. */
Test(rotate, bits_depend_on_the_position_alone) {
  test_random r = test_random_start();
  spindle_position p = test_rule(SPINDLE_ROPE_YARN, 64);
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    table t = make_table(backend, (spindle_shape){.num_q_heads = 1, .head_dim_qk = 64}, &p, 1);
    float *x = normals(&r, ROWS * 64), *together = test_memory(ROWS * 64 * sizeof *x),
          *alone = test_memory(ROWS * 64 * sizeof *x);
    int64_t index[ROWS];
    for (int32_t i = 0; i < ROWS; i++) index[i] = i < 25 ? 1000003 + i : test_random_int(&r, 0, 1 << 30);
    spindle_rotate_args a = {
        .struct_size = sizeof a, .rows = ROWS, .heads = 1, .x = {.data = x}, .out = {.data = together}, .index = index};
    test_ok(spindle_rotate(t.context, &t.shape, t.positions, &a, NULL));
    for (int32_t i = 0; i < ROWS; i++) {
      a = (spindle_rotate_args){.struct_size = sizeof a,
                                .rows = 1,
                                .heads = 1,
                                .x = {.data = x + i * 64},
                                .out = {.data = alone + i * 64},
                                .index = &index[i]};
      test_ok(spindle_rotate(t.context, &t.shape, t.positions, &a, NULL));
    }
    test_same_bits("rotated", together, alone, ROWS * 64);
    free_table(&t);
    free(x);
    free(together);
    free(alone);
  }
}

Test(rotate, reads_each_row_s_slot_and_strides) {
  test_random r = test_random_start();
  spindle_position slots[] = {test_rule(SPINDLE_ROPE_DEFAULT, 32), test_rule(SPINDLE_ROPE_YARN, 32),
                              test_rule(SPINDLE_ROPE_NONE, 32)};
  table t =
      make_table(SPINDLE_BACKEND_CPU, (spindle_shape){.q_dtype = SPINDLE_BF16, .num_q_heads = 2, .head_dim_qk = 32}, slots, 3);
  int64_t index[] = {5, 6, 7, 8, 9};
  int32_t slot[] = {2, 1, 0, 1, 2};
  uint16_t *x = test_memory(5 * 80 * sizeof *x), *out = test_memory(2 * 5 * 48 * sizeof *out); /* [5][2][40] in, [2][5][48] out */
  double want[32];
  float in[32];
  spindle_rotate_args a = {.struct_size = sizeof a,
                           .rows = 5,
                           .heads = 2,
                           .x = {x, 0, 80, 40},
                           .out = {out, 0, 48, 240},
                           .index = index,
                           .position = slot};
  for (int i = 0; i < 5 * 80; i++) test_store(SPINDLE_BF16, &x[i], (float)test_random_normal(&r));
  test_ok(spindle_rotate(t.context, &t.shape, t.positions, &a, NULL));
  for (int i = 0; i < 5; i++)
    for (int h = 0; h < 2; h++) {
      for (int c = 0; c < 32; c++) in[c] = test_load(SPINDLE_BF16, &x[i * 80 + h * 40 + c]);
      rotate_by_hand(&t, &slots[slot[i]], index[i], 1, in, want);
      for (int c = 0; c < 32; c++) {
        double got = (double)test_load(SPINDLE_BF16, &out[h * 240 + i * 48 + c]);
        cr_assert(fabs(got - want[c]) <= 1e-5 + 0x1p-8 * fabs(want[c]), "row %d, head %d, channel %d is %g, not %g", i, h, c, got,
                  want[c]);
      }
      for (int c = 32; c < 48; c++) cr_assert_eq(out[h * 240 + i * 48 + c], 0xffff, "wrote between rows");
    }
  free_table(&t);
  free(x);
  free(out);
}
