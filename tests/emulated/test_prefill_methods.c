/* Every method, alone and in random company: rules, remaps, masks, biases, row scales, softcap and sinks, in batches of requests
 * that differ in them, under all ways to read keys, against the reference. */
#include <criterion/criterion.h>
#include <emulator.h>

#include "support/again.h"
#include "support/halves.h"
#include "support/layer.h"
#include "support/methods.h"

enum { MOST_REQUESTS = 3 };

static void check(test_random *r, test_layer *l, const spindle_position *positions, int32_t count) {
  test_request requests[MOST_REQUESTS] = {0};
  for (int32_t q = 0; q < count; q++) requests[q] = test_layer_request(r, l, positions[q]);
  test_halves(test_layer_describe(l, &requests[0]), &l->setup, requests, count);
  for (int32_t q = 0; q < count; q++) test_request_free(&requests[q]);
}

static spindle_position any_rule(test_random *r, const spindle_shape *s) {
  return test_rule((int32_t)test_random_int(r, 0, TEST_NUM_RULES - 1), s->rotary_dim);
}

/* The check build and AddressSanitizer are slower, and look for something else. */
static bool left_out(test_random *r) {
  return (emulator_sees_plain_accesses() || !emulator_catches_faults() || test_again()) && !test_random_once_in(r, 4);
}

Test(prefill_methods, every_rule) {
  test_random r = test_random_start();
  for (int32_t rope = 0; rope < TEST_NUM_RULES; rope++) {
    test_layer l;
    if (left_out(&r)) continue;
    test_layer_draw(&r, &l);
    spindle_position p = test_rule(rope, l.setup.shape.rotary_dim);
    check(&r, &l, &p, 1);
  }
}

Test(prefill_methods, every_remap_under_every_mask) {
  test_random r = test_random_start();
  for (int32_t number = 0; number < TEST_NUM_REMAPS * TEST_NUM_MASKS; number++) {
    test_layer l;
    if (left_out(&r)) continue;
    test_layer_draw(&r, &l);
    spindle_position p = test_remap(any_rule(&r, &l.setup.shape), number % TEST_NUM_REMAPS);
    p = test_mask(p, number / TEST_NUM_REMAPS);
    check(&r, &l, &p, 1);
  }
}

Test(prefill_methods, requests_that_differ) {
  test_random r = test_random_start();
  for (int32_t round = 0; round < 20; round++) {
    spindle_position p[MOST_REQUESTS];
    test_layer l;
    if (left_out(&r)) continue;
    test_layer_draw(&r, &l);
    for (int32_t q = 0; q < MOST_REQUESTS; q++) p[q] = test_any_method(&r, l.setup.shape.rotary_dim);
    check(&r, &l, p, MOST_REQUESTS);
  }
}

/* Keys that were rotated before they were cached serve what leaves keys alone. */
Test(prefill_methods, rotated_keys) {
  test_random r = test_random_start();
  for (int32_t round = 0; round < 30; round++) {
    test_layer l;
    if (left_out(&r)) continue;
    test_layer_draw(&r, &l);
    l.setup.shape.key_state = SPINDLE_KEYS_ROTATED;
    spindle_position p = any_rule(&r, &l.setup.shape);
    if (p.rope == SPINDLE_ROPE_XPOS) p = test_rule(SPINDLE_ROPE_YARN, l.setup.shape.rotary_dim);
    if (round % 3 == 0) p = test_remap(p, SPINDLE_REMAP_STREAMING);
    p = test_mask(p, round % TEST_NUM_MASKS);
    check(&r, &l, &p, 1);
  }
}
