/* What may not change a bit of the result: the schedule of raw keys, other requests in the batch, in which pages keys lie, how
 * fast copies are and in which order threads and blocks run. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdlib.h>

#include "support/again.h"
#include "support/attend.h"
#include "support/layer.h"
#include "support/methods.h"

static spindle_position any_method(test_random *r, const test_layer *l) { return test_any_method(r, l->setup.shape.rotary_dim); }

/* Of two calls, with another setup, on the same request in the same storage: where page_span leaves holes, tiles have other
 * keys. */
static void check_same(test_layer *l, const test_setup *other, const test_request *request) {
  test_random *r = l->setup.random, before = *r;
  test_request one = test_request_copy(request, &l->setup.shape), two = test_request_copy(request, &l->setup.shape);
  test_attend(&l->setup, &one, 1);
  *r = before;
  test_attend(other, &two, 1);
  test_requests_same(test_layer_describe(l, request), &l->setup.shape, &two, &one);
  test_request_free(&one);
  test_request_free(&two);
}

/* Rotated in the loop, before it, or as the plan thinks best. */
Test(prefill_bits, schedules) {
  test_random r = test_random_start();
  for (int32_t round = 0; round < (!emulator_catches_faults() ? 6 : test_again() ? 8 : 20); round++) {
    test_layer l;
    test_layer_draw(&r, &l);
    test_request q = test_layer_request(&r, &l, any_method(&r, &l));
    test_setup other = l.setup;
    l.setup.schedule = SPINDLE_SCHEDULE_IN_LOOP;
    other.schedule = round % 3 ? SPINDLE_SCHEDULE_PREROTATE : SPINDLE_SCHEDULE_AUTO;
    check_same(&l, &other, &q);
    test_request_free(&q);
  }
}

/* More than 256 packed rows: auto rotates first. Keys from index 6 on: in the loop threads rotate runs of 4 rows, before it
 * of 8, which pass multiples of 8 at different places. */
Test(prefill_bits, auto_schedule_of_many_rows) {
  test_random r = test_random_start();
  test_layer l;
  test_layer_draw(&r, &l);
  l.setup.shape.num_kv_heads = l.setup.shape.num_q_heads / 2;
  l.setup.shape.head_dim_qk = l.setup.shape.head_dim_v = l.setup.shape.rotary_dim = 64;
  l.setup.shape.rotary_offset = 0;
  l.setup.schedule = SPINDLE_SCHEDULE_AUTO;
  test_setup other = l.setup;
  other.schedule = SPINDLE_SCHEDULE_IN_LOOP;
  test_request q = test_request_make(&r, &l.setup.shape,
                                     test_remap(test_rule(SPINDLE_ROPE_DEFAULT, 64), SPINDLE_REMAP_LEAKY_REROPE), 130, 300, 1);
  q.kv_index = 6;
  test_request_at_end(&q);
  check_same(&l, &other, &q);
  test_request_free(&q);
}

/* Two runs alike but for the emulator's options. */
static void check_options(const emulator_options *options) {
  test_random r = test_random_start();
  for (int32_t round = 0; round < (emulator_catches_faults() && !test_again() ? 5 : 2); round++) {
    test_layer l;
    test_layer_draw(&r, &l);
    l.setup.random = NULL;
    test_request q = test_layer_request(&r, &l, any_method(&r, &l)), one = test_request_copy(&q, &l.setup.shape);
    emulator_configure(NULL);
    test_attend(&l.setup, &one, 1);
    emulator_configure(options);
    test_attend(&l.setup, &q, 1);
    test_requests_same(test_layer_describe(&l, &q), &l.setup.shape, &q, &one);
    test_request_free(&q);
    test_request_free(&one);
  }
}

Test(prefill_bits, copies_that_land_early) {
  check_options(&(emulator_options){.copies = EMULATOR_EAGER, .streams = EMULATOR_EAGER});
}
Test(prefill_bits, copies_that_land_whenever) { check_options(&(emulator_options){.copies = EMULATOR_RANDOM, .seed = 5}); }
Test(prefill_bits, threads_and_blocks_backwards) { check_options(&(emulator_options){.order = EMULATOR_DESCENDING}); }
Test(prefill_bits, threads_and_blocks_in_any_order) {
  check_options(&(emulator_options){.order = EMULATOR_SHUFFLED, .copies = EMULATOR_EAGER, .seed = 11});
}

/* With fixed splits: alone, and in the middle of others, in other pages, with other bounds. */
Test(prefill_bits, fixed_splits_in_any_company) {
  test_random r = test_random_start();
  static const int32_t splits[] = {64, 100, 17, 300};
  for (int32_t round = 0; round < (test_again() ? 4 : 12); round++) {
    test_layer l;
    test_layer_draw(&r, &l);
    test_request requests[4], alone;
    for (int32_t q = 0; q < 4; q++) {
      spindle_position p = any_method(&r, &l);
      p.s2_wrap = 0;
      requests[q] = test_layer_request(&r, &l, p);
    }
    l.setup.split_keys = splits[round % 4];
    l.setup.spans = false;
    alone = test_request_copy(&requests[2], &l.setup.shape);
    test_attend(&l.setup, &alone, 1);
    l.setup.generous = !l.setup.generous;
    l.setup.page_size = round % 3 ? (int32_t)test_random_int(&r, 1, 150) : 0;
    test_attend(&l.setup, requests, 4);
    test_requests_same(test_layer_describe(&l, &alone), &l.setup.shape, &requests[2], &alone);
    for (int32_t q = 0; q < 4; q++) test_request_free(&requests[q]);
    test_request_free(&alone);
  }
}
