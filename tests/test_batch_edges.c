/* Rows that see nothing, requests of nothing, and numbers at the edge: values are what the header says, on both backends. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/attend.h"
#include "support/methods.h"

static const spindle_shape shape = {.num_q_heads = 2, .num_kv_heads = 1, .head_dim_qk = 32};
static const float sinks[] = {0.5f, -2.0f};

/* Rows [0, count) see no key: O = 0, and LSE = -inf or the sink. */
static void check_blind_rows(const test_request *q, int32_t count, const float *sink, const char *what) {
  for (int32_t x = 0; x < count * 2; x++) {
    for (int32_t d = 0; d < 32; d++)
      cr_assert(q->o[x * 32 + d] == 0, "%s: O of row %d is %g", what, x / 2, (double)q->o[x * 32 + d]);
    cr_assert(q->lse[x] == (sink ? sink[x % 2] : -INFINITY), "%s: LSE of row %d is %g", what, x / 2, (double)q->lse[x]);
  }
}

static void check(test_request request, int32_t blind, const char *what) {
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++)
    for (int32_t variant = 0; variant < 4; variant++) {
      test_setup setup = {.backend = backend, .shape = shape, .args = {.sink_logits = variant % 2 ? sinks : NULL}};
      setup.split_keys = variant / 2 ? 16 : 0;
      test_attend(&setup, &request, 1);
      check_blind_rows(&request, blind, variant % 2 ? sinks : NULL, what);
      for (int32_t x = blind * 2; x < request.q_len * 2; x++)
        cr_assert(isfinite(request.lse[x]) && isfinite(request.o[x * 32]), "%s: row %d of backend %d", what, x / 2, backend);
    }
  test_request_free(&request);
}

Test(batch_edges, rows_that_see_no_key) {
  test_random r = test_random_start();
  spindle_position plain = {.rope = SPINDLE_ROPE_DEFAULT}, window = {.rope = SPINDLE_ROPE_DEFAULT, .window_left = 10};
  spindle_position chunk = {.rope = SPINDLE_ROPE_DEFAULT, .chunk = 50};
  test_request q = test_request_make(&r, &shape, plain, 20, 0, 1);
  q.q_index = 0;
  check(q, 20, "no keys at all");
  q = test_request_make(&r, &shape, plain, 20, 30, 1);
  q.kv_index = 100;
  q.q_index = 92;
  check(q, 8, "rows before the first key");
  q = test_request_make(&r, &shape, window, 20, 30, 1);
  q.q_index = 60;
  check(q, 20, "keys out of the window");
  q = test_request_make(&r, &shape, chunk, 3, 30, 1);
  q.q_index = 50;
  check(q, 3, "keys in an earlier chunk");
}

/* Without q_index rows end with the keys; where there are fewer keys than rows the first rows lie before the text. */
Test(batch_edges, rows_before_the_text_see_nothing) {
  test_random r = test_random_start();
  for (int32_t remap = 0; remap < TEST_NUM_REMAPS; remap++)
    for (int32_t mask = 0; mask < 6; mask++) {
      spindle_position p = test_mask(test_remap(test_rule(SPINDLE_ROPE_DEFAULT, 32), remap), mask);
      p.s2_wrap = 0;
      test_request q = test_request_make(&r, &shape, p, 90, 20, 1);
      cr_assert_eq(q.q_index, -70);
      for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
        test_setup setup = {.backend = backend, .shape = shape, .default_q_index = true};
        test_attend(&setup, &q, 1);
        check_blind_rows(&q, 70, NULL, test_method_name(&p));
      }
      test_request_free(&q);
    }
}

Test(batch_edges, requests_of_nothing_among_others) {
  test_random r = test_random_start();
  for (int round = 0; round < 10; round++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CPU, .shape = shape, .random = &r, .page_size = round % 2 * 16};
    test_request q[5];
    for (int x = 0; x < 5; x++)
      q[x] = test_request_make(&r, &shape, test_rule(SPINDLE_ROPE_YARN, 32), x % 2 ? 0 : 7, x == 2 ? 0 : 40, 1);
    q[2].q_index = 5;
    test_attend(&setup, q, 5);
    check_blind_rows(&q[2], 7, NULL, "no keys among others");
    for (int x = 0; x < 5; x++) test_request_free(&q[x]);
  }
}

/* One visible key: O is its value, whatever the score. */
Test(batch_edges, one_key_gives_its_value) {
  test_random r = test_random_start();
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    test_setup setup = {.backend = backend, .shape = shape, .args = {.scale = 1000}};
    test_request q = test_request_make(&r, &shape, test_rule(SPINDLE_ROPE_DEFAULT, 32), 1, 1, 30);
    test_attend(&setup, &q, 1);
    test_same_bits("O of one key", q.o, q.v, 32);
    test_same_bits("O of one key", q.o + 32, q.v, 32);
    test_request_free(&q);
  }
}

/* Logits to +-1e5: the softmax neither overflows nor loses the largest. A score is right to 1e-6 |q| |k| scale, and |q| |k| stays
 * below 3 D for normal numbers. */
Test(batch_edges, logits_of_1e5) {
  test_random r = test_random_start();
  for (int round = 0; round < 20; round++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CPU, .shape = shape, .args = {.scale = round % 2 ? 1000.0f : 4000.0f}};
    float allowed = 1e-6f * setup.args.scale * 3 * 32;
    spindle_position p = test_mask(test_rule(SPINDLE_ROPE_NONE, 32), round % 3);
    test_request q = test_request_make(&r, &shape, p, 40, 200, 4), oracle = test_request_copy(&q, &shape);
    test_attend(&setup, &q, 1);
    setup.backend = SPINDLE_BACKEND_REFERENCE;
    test_attend(&setup, &oracle, 1);
    for (int32_t x = 0; x < 80; x++) {
      cr_assert(isfinite(q.lse[x]));
      cr_assert(fabsf(q.lse[x] - oracle.lse[x]) < allowed, "LSE %.9g, not %.9g", (double)q.lse[x], (double)oracle.lse[x]);
      for (int32_t d = 0; d < 32; d++) cr_assert(isfinite(q.o[x * 32 + d]));
    }
    test_close("O at logits of 1e5", q.o, oracle.o, 40, 2, 32, 0.15);
    test_request_free(&q);
    test_request_free(&oracle);
  }
}

/* Scores that are infinite or NaN stay in their row. */
Test(batch_edges, bad_numbers_stay_in_their_row) {
  test_random r = test_random_start();
  test_setup setup = {.backend = SPINDLE_BACKEND_CPU, .shape = shape};
  test_request clean = test_request_make(&r, &shape, test_rule(SPINDLE_ROPE_DEFAULT, 32), 50, 90, 1),
               q = test_request_copy(&clean, &shape);
  for (int32_t d = 0; d < 64; d++) q.q[20 * 64 + d] = NAN;
  for (int32_t d = 0; d < 32; d++) q.v[85 * 32 + d] = INFINITY; /* seen by rows 45 on: index 85 and later */
  test_attend(&setup, &clean, 1);
  test_attend(&setup, &q, 1);
  for (int32_t x = 0; x < 45 * 2; x++)
    if (x / 2 != 20) test_close("a clean row", q.o + x * 32, clean.o + x * 32, 1, 1, 32, 1e-6);
  for (int32_t d = 0; d < 64; d++) cr_assert(isnan(q.o[20 * 64 + d]));
  test_request_free(&clean);
  test_request_free(&q);
}
