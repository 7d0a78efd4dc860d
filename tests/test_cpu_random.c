/* The cpu backend against the reference: random shapes, methods, storage and batches. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <criterion/criterion.h>

#include "support/attention_case.h"

#define UNTOUCHED 7.0f

static void compare(const test_case *c, const float *o, const float *lse, const float *expected_o, const float *expected_lse, int number) {
  int32_t heads = c->shape.num_q_heads, dim = c->shape.head_dim_v;
  double largest = 6 * c->v_scale; /* of |v|, normal numbers */
  for (int64_t row = 0; row < (int64_t)c->q_rows * heads; row++) {
    double o_tolerance, lse_tolerance;
    test_case_tolerance(c, expected_lse[row], &o_tolerance, &lse_tolerance);
    if (isinf(expected_lse[row])) cr_assert_eq(lse[row], expected_lse[row], "case %d row %lld: %s", number, (long long)row, c->text);
    else
      cr_assert(fabs((double)lse[row] - expected_lse[row]) <= lse_tolerance, "case %d row %lld: LSE %.9g, reference %.9g, tolerance %g: %s", number,
                (long long)row, lse[row], expected_lse[row], lse_tolerance, c->text);
    for (int32_t d = 0; d < dim; d++)
      cr_assert(fabs((double)o[row * dim + d] - expected_o[row * dim + d]) <= largest * o_tolerance,
                "case %d row %lld channel %d: O %.9g, reference %.9g, tolerance %g: %s", number, (long long)row, d, o[row * dim + d],
                expected_o[row * dim + d], largest * o_tolerance, c->text);
  }
}

static void check(int32_t features, int cases) {
  test_random r = test_random_start();
  for (int number = 0; number < cases; number++) {
    test_case c;
    test_case_draw(&r, features, &c);
    size_t rows = (size_t)c.q_rows * (size_t)c.shape.num_q_heads, dim = (size_t)c.shape.head_dim_v;
    float *o = malloc(2 * rows * dim * sizeof *o), *lse = malloc(2 * rows * sizeof *lse);
    for (size_t x = 0; x < 2 * rows * dim; x++) o[x] = UNTOUCHED;
    for (size_t x = 0; x < 2 * rows; x++) lse[x] = UNTOUCHED;
    cr_assert_eq(test_case_run(&c, SPINDLE_BACKEND_REFERENCE, 0, o, lse), SPINDLE_OK, "%s: %s", spindle_last_error(), c.text);
    int32_t threads = (int32_t)test_random_int(&r, 1, 3);
    cr_assert_eq(test_case_run(&c, SPINDLE_BACKEND_CPU, threads, o + rows * dim, lse + rows), SPINDLE_OK, "%s: %s", spindle_last_error(), c.text);
    compare(&c, o + rows * dim, lse + rows, o, lse, number);
    free(o);
    free(lse);
    test_case_free(&c);
  }
}

Test(cpu_random, plain) { check(0, 60); }
Test(cpu_random, dtypes) { check(TEST_CASE_DTYPES, 60); }
Test(cpu_random, storage) { check(TEST_CASE_STORAGE, 60); }
Test(cpu_random, methods) { check(TEST_CASE_METHODS, 150); }
Test(cpu_random, all) { check(TEST_CASE_DTYPES | TEST_CASE_STORAGE | TEST_CASE_METHODS, 150); }
