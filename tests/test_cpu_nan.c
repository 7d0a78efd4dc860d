/* What a row does not see cannot reach it, even where it is present and NaN; what it sees can. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "support/random.h"
#include "support/tiny.h"

enum { KEYS = 300, BAD = 200, HEADS = 2, DIM = 40 };

typedef struct tensors {
  float q[KEYS * HEADS * DIM], k[KEYS * DIM], v[KEYS * DIM];
  float o[KEYS * HEADS * DIM], lse[KEYS * HEADS];
} tensors;

static void run(tensors *t, int32_t rows, int64_t q_index) {
  test_tiny call = {.backend = SPINDLE_BACKEND_CPU,
                    .shape = {.num_q_heads = HEADS, .num_kv_heads = 1, .head_dim_qk = DIM},
                    .position = {.rope = SPINDLE_ROPE_DEFAULT, .window_left = 80},
                    .q_len = rows,
                    .kv_len = KEYS,
                    .q_index = q_index,
                    .q = t->q,
                    .k = t->k,
                    .v = t->v};
  cr_assert_eq(test_tiny_run(&call, t->o, t->lse), SPINDLE_OK, "%s", spindle_last_error());
}

/* Rows [q_index, q_index + rows): those within [BAD, BAD + 80) are NaN, the others as if key BAD were any other. */
static void check(int32_t rows, int64_t q_index, bool in_v, float bad) {
  tensors *t = calloc(1, sizeof *t), *clean = calloc(1, sizeof *clean);
  test_random r = test_random_start();
  for (size_t x = 0; x < sizeof t->q / sizeof *t->q; x++) t->q[x] = (float)test_random_normal(&r);
  for (size_t x = 0; x < sizeof t->k / sizeof *t->k; x++) t->k[x] = (float)test_random_normal(&r);
  for (size_t x = 0; x < sizeof t->v / sizeof *t->v; x++) t->v[x] = (float)test_random_normal(&r);
  *clean = *t;
  run(clean, rows, q_index);
  for (int32_t d = 0; d < DIM; d++) (in_v ? t->v : t->k)[BAD * DIM + d] = bad;
  run(t, rows, q_index);
  for (int32_t x = 0; x < rows * HEADS; x++) {
    int64_t i = q_index + x / HEADS;
    bool sees = i >= BAD && i < BAD + 80;
    for (int32_t d = 0; d < DIM; d++) {
      if (sees)
        cr_assert(!isfinite(t->o[x * DIM + d]), "row %lld hides a value that it sees", (long long)i);
      else
        cr_assert_eq(t->o[x * DIM + d], clean->o[x * DIM + d], "row %lld sees key %d", (long long)i, BAD);
    }
    if (!sees) cr_assert_eq(t->lse[x], clean->lse[x]);
  }
  free(t);
  free(clean);
}

Test(cpu_nan, prefill_value) { check(KEYS, 0, true, NAN); }
Test(cpu_nan, prefill_infinite_value) { check(KEYS, 0, true, INFINITY); }
Test(cpu_nan, prefill_key) { check(KEYS, 0, false, NAN); }
Test(cpu_nan, few_rows_value) { check(3, BAD - 2, true, NAN); }
Test(cpu_nan, few_rows_key) { check(3, BAD - 2, false, NAN); }
Test(cpu_nan, one_row_value) { check(1, BAD - 1, true, NAN); }
Test(cpu_nan, one_row_past_the_window) { check(1, BAD + 80, true, NAN); }
