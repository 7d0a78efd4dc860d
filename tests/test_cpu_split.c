/* With split_keys a request's bits depend on the request alone: not on the threads, the other requests of the batch, or the
 * plan's bounds. */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "support/attention_case.h"

typedef struct result {
  size_t o_count, lse_count;
  float *o, *lse;
} result;

static result run(const test_case *c, int32_t threads) {
  size_t rows = (size_t)c->q_rows * (size_t)c->shape.num_q_heads;
  result x = {rows * (size_t)c->shape.head_dim_v, rows, NULL, NULL};
  x.o = calloc(x.o_count, sizeof *x.o);
  x.lse = calloc(x.lse_count, sizeof *x.lse);
  cr_assert_eq(test_case_run(c, SPINDLE_BACKEND_CPU, threads, x.o, x.lse), SPINDLE_OK, "%s: %s", spindle_last_error(), c->text);
  return x;
}

static void release(result *x) {
  free(x->o);
  free(x->lse);
}

/* Rows of request r in both. */
static void same_bits(const test_case *c, int32_t r, const result *a, const result *b, const char *what) {
  size_t first = (size_t)c->q_begin[r] * (size_t)c->shape.num_q_heads, rows = (size_t)c->q_len[r] * (size_t)c->shape.num_q_heads;
  size_t dim = (size_t)c->shape.head_dim_v;
  cr_assert_eq(memcmp(a->lse + first, b->lse + first, rows * sizeof *a->lse), 0, "LSE depends on %s: %s", what, c->text);
  cr_assert_eq(memcmp(a->o + first * dim, b->o + first * dim, rows * dim * sizeof *a->o), 0, "O depends on %s: %s", what,
               c->text);
}

static void check(test_random *r) {
  test_case c, alone;
  test_case_draw(r, TEST_CASE_STORAGE | TEST_CASE_METHODS | TEST_CASE_DTYPES, &c);
  c.options.split_keys = (int32_t)test_random_log(r, 1, 400);
  result one = run(&c, 1), many = run(&c, 5);
  for (int32_t x = 0; x < c.num_requests; x++) {
    same_bits(&c, x, &one, &many, "the threads");
    alone = c;
    for (int32_t other = 0; other < c.num_requests; other++)
      if (other != x) alone.q_len[other] = 0;
    alone.options.max_kv_len = 1 << 20;
    result single = run(&alone, 5);
    same_bits(&c, x, &many, &single, "the batch or the bounds");
    release(&single);
  }
  release(&one);
  release(&many);
  test_case_free(&c);
}

Test(cpu_split, bits_depend_on_the_request_alone) {
  test_random r = test_random_start();
  for (int number = 0; number < 60; number++) check(&r);
}
