/* All scores of a call use one n, and no history: a decode call is the last row of one long call over the same K, V and n. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "support/attend.h"
#include "support/methods.h"

#define LONGEST 230

/* The first `keys` keys of a text, and its rows [first, keys). */
static test_request cut(const test_request *text, const spindle_shape *s, int32_t first, int32_t keys) {
  test_request whole = *text, part;
  int64_t row = (int64_t)s->num_q_heads * s->head_dim_qk;
  whole.q_len = keys - first;
  whole.kv_len = keys;
  whole.q = text->q + first * row;
  part = test_request_copy(&whole, s);
  part.q_index = first;
  return part;
}

static void check_last_row(const test_setup *setup, const test_request *text, int32_t keys) {
  spindle_shape s = test_shape(setup->shape);
  test_request all = cut(text, &s, 0, keys), last = cut(text, &s, keys - 1, keys);
  int64_t row = (int64_t)(keys - 1) * s.num_q_heads;
  char what[300];
  test_attend(setup, &all, 1);
  test_attend(setup, &last, 1);
  snprintf(what, sizeof what, "decode of token %d, backend %d, %s", keys, setup->backend, test_method_name(&text->position));
  test_close(what, last.o, all.o + row * s.head_dim_v, 1, s.num_q_heads, s.head_dim_v, 2e-5);
  test_close(what, last.lse, all.lse + row, 1, s.num_q_heads, 1, 2e-5);
  test_request_free(&all);
  test_request_free(&last);
}

/* Growing past the trained length (96), the extended one (192), and back: what came before leaves no trace. */
Test(properties_decode, equals_the_last_row_growing_and_shrinking) {
  static const int32_t lengths[] = {1, 2, 95, 96, 97, 128, 192, 193, LONGEST, 150, 97, 96, 50, 3};
  test_random r = test_random_start();
  spindle_shape shape = {.num_q_heads = 4, .num_kv_heads = 2, .head_dim_qk = 32};
  for (int32_t rope = 0; rope < TEST_NUM_RULES; rope++) {
    spindle_position p = test_rule(rope, 32);
    test_request text = test_request_make(&r, &shape, p, LONGEST, LONGEST, 1);
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
      test_setup setup = {.backend = SPINDLE_BACKEND_CPU, .shape = shape, .num_threads = 1, .random = &r};
      if (test_rule_has_n(rope) || l % 5 == 1) check_last_row(&setup, &text, lengths[l]);
      setup.backend = SPINDLE_BACKEND_REFERENCE;
      if (test_rule_has_n(rope) && lengths[l] < 100) check_last_row(&setup, &text, lengths[l]);
    }
    test_request_free(&text);
  }
}

/* Which rule is in force is n's doing alone: the same rows and keys under another n are another result. */
Test(properties_decode, follows_n_and_not_the_keys) {
  test_random r = test_random_start();
  spindle_shape shape = {.num_q_heads = 2, .head_dim_qk = 32};
  for (int32_t rope = 0; rope < TEST_NUM_RULES; rope++) {
    if (!test_rule_has_n(rope)) continue;
    test_setup setup = {.backend = SPINDLE_BACKEND_CPU, .shape = shape};
    test_request before = test_request_make(&r, &shape, test_rule(rope, 32), 1, 90, 1);
    before.n = 96;
    test_request after = test_request_copy(&before, &shape), oracle = test_request_copy(&before, &shape);
    after.n = oracle.n = 400;
    test_attend(&setup, &before, 1);
    test_attend(&setup, &after, 1);
    setup.backend = SPINDLE_BACKEND_REFERENCE;
    test_attend(&setup, &oracle, 1);
    test_requests_close("n 400", &shape, &after, &oracle, 2e-5);
    cr_assert(memcmp(before.lse, after.lse, 2 * sizeof(float)) != 0, "rope %d does not see n", rope);
    test_request_free(&before);
    test_request_free(&after);
    test_request_free(&oracle);
  }
}

/* Chunks of a prefill, all told the n of the whole, are the rows of one call. */
Test(properties_decode, chunked_prefill_with_one_n_equals_one_call) {
  test_random r = test_random_start();
  spindle_shape shape = {.num_q_heads = 2, .num_kv_heads = 1, .head_dim_qk = 32};
  for (int32_t remap = 0; remap < TEST_NUM_REMAPS; remap++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CPU, .shape = shape, .num_threads = 1, .random = &r};
    test_request text =
        test_request_make(&r, &shape, test_remap(test_rule(SPINDLE_ROPE_DYNAMIC_NTK, 32), remap), LONGEST, LONGEST, 1);
    spindle_shape s = test_shape(shape);
    test_attend(&setup, &text, 1);
    for (int32_t first = 0, size; first < LONGEST; first += size) {
      size = (int32_t)test_random_int(&r, 1, LONGEST - first < 90 ? LONGEST - first : 90);
      test_request chunk = cut(&text, &s, first, first + size);
      chunk.n = LONGEST;
      test_attend(&setup, &chunk, 1);
      test_close("chunk of a prefill", chunk.o, text.o + (int64_t)first * 2 * 32, size, 2, 32, 2e-5);
      test_request_free(&chunk);
    }
    test_request_free(&text);
  }
}
