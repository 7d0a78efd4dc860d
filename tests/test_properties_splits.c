/* Splitting the keys of a request: with split_keys its bits depend on nothing but the request, and sinks count once. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

#include "support/attend.h"
#include "support/methods.h"

static const spindle_shape shape = {.num_q_heads = 4, .num_kv_heads = 2, .head_dim_qk = 32};

static test_request draw(test_random *r) {
  bool decode = test_random_once_in(r, 2);
  int32_t keys = (int32_t)test_random_log(r, 1, 700), rows = decode ? 1 : (int32_t)test_random_int(r, 1, keys < 60 ? keys : 60);
  spindle_position p = test_any_method(r, 32);
  p.s2_wrap = 0;
  return test_request_make(r, &shape, p, rows, keys, 1);
}

/* Alone, on one thread and with tight bounds; then among others, in other storage, with other threads and bounds. */
Test(properties_splits, bits_depend_on_the_request_alone) {
  test_random r = test_random_start();
  static const int32_t splits[] = {64, 100, 128, 512};
  for (int round = 0; round < 120; round++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CPU, .shape = shape, .num_threads = 1, .split_keys = splits[round % 4]};
    test_request requests[5], alone;
    for (int q = 0; q < 5; q++) requests[q] = draw(&r);
    alone = test_request_copy(&requests[2], &shape);
    test_attend(&setup, &alone, 1);
    setup.random = &r;
    setup.num_threads = (int32_t)test_random_int(&r, 1, 4);
    setup.generous = test_random_once_in(&r, 2);
    setup.page_size = round % 3 ? (int32_t)test_random_int(&r, 1, 200) : 0;
    setup.csr = test_random_once_in(&r, 2);
    test_attend(&setup, requests, 5);
    test_requests_same(test_method_name(&alone.position), &shape, &requests[2], &alone);
    for (int q = 0; q < 5; q++) test_request_free(&requests[q]);
    test_request_free(&alone);
  }
}

Test(properties_splits, repeat_bit_for_bit) {
  test_random r = test_random_start();
  for (int round = 0; round < 20; round++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CPU, .shape = shape, .num_threads = 3, .split_keys = 64};
    test_request first = draw(&r), again = test_request_copy(&first, &shape);
    test_attend(&setup, &first, 1);
    test_attend(&setup, &again, 1);
    test_requests_same("again", &shape, &again, &first);
    test_request_free(&first);
    test_request_free(&again);
  }
}

/* Many splits of one request, a few, or none: one softmax, and one sink in it. */
Test(properties_splits, sinks_count_once) {
  test_random r = test_random_start();
  const float sinks[] = {3.0f, -1.0f, 0.0f, 8.0f};
  static const int32_t splits[] = {0, 1, 2, 3, 17, 64, 300, 1000000};
  for (int32_t rows = 1; rows < 80; rows += 39)
    for (size_t s = 0; s < sizeof splits / sizeof *splits; s++) {
      test_setup setup = {.backend = SPINDLE_BACKEND_REFERENCE, .shape = shape, .args = {.sink_logits = sinks}};
      spindle_position p = test_mask(test_rule(SPINDLE_ROPE_DEFAULT, 32), (int32_t)s % 3);
      test_request oracle = test_request_make(&r, &shape, p, rows, 300, 1), got = test_request_copy(&oracle, &shape);
      char text[60];
      test_attend(&setup, &oracle, 1);
      setup.backend = SPINDLE_BACKEND_CPU;
      setup.split_keys = splits[s];
      test_attend(&setup, &got, 1);
      snprintf(text, sizeof text, "sinks, %d rows, split_keys %d", rows, splits[s]);
      test_requests_close(text, &shape, &got, &oracle, 2e-5);
      test_request_free(&oracle);
      test_request_free(&got);
    }
}

/* A learned sink is a score of its own: LSE' = log(exp(LSE) + exp(s)), O' = O exp(LSE - LSE'). */
Test(properties_splits, sinks_follow_from_the_result_without) {
  test_random r = test_random_start();
  const float sinks[] = {3.0f, -1.0f, 0.0f, 8.0f};
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    test_setup setup = {.backend = backend, .shape = shape};
    test_request without = test_request_make(&r, &shape, test_rule(SPINDLE_ROPE_DEFAULT, 32), 50, 90, 1);
    test_request with = test_request_copy(&without, &shape), partial = test_request_copy(&without, &shape);
    test_attend(&setup, &without, 1);
    setup.args.sink_logits = sinks;
    test_attend(&setup, &with, 1);
    setup.partial = true;
    test_attend(&setup, &partial, 1);
    test_requests_same("a partial result leaves sinks out", &shape, &partial, &without);
    for (int32_t x = 0; x < 50 * 4; x++) {
      double lse = log(exp((double)without.lse[x]) + exp((double)sinks[x % 4]));
      without.lse[x] = (float)lse;
      for (int32_t d = 0; d < 32; d++) without.o[x * 32 + d] *= (float)exp((double)partial.lse[x] - lse);
    }
    test_requests_close("with sinks", &shape, &with, &without, 1e-5);
    test_request_free(&without);
    test_request_free(&with);
    test_request_free(&partial);
  }
}
