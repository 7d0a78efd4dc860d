/* Requests of one batch do not see one another: rules, remaps, masks, lengths and n differ, and each result is that of the
 * request alone. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/attend.h"
#include "support/methods.h"

static void check_mixed(test_random *r, int32_t backend, int32_t count, int32_t split_keys, spindle_shape shape) {
  test_setup setup = {.backend = backend, .shape = shape, .split_keys = split_keys, .num_threads = 2, .random = r};
  test_request *together = malloc((size_t)count * sizeof *together);
  setup.page_size = test_random_once_in(r, 2) ? 16 : 0;
  for (int32_t q = 0; q < count; q++) {
    int32_t keys = (int32_t)test_random_log(r, 1, 200), rows = q % 2 ? 1 : (int32_t)test_random_int(r, 1, keys);
    spindle_position p = test_any_method(r, 32);
    p.s2_wrap = 0;
    together[q] = test_request_make(r, &shape, p, rows, keys, 1);
    if (test_random_once_in(r, 3)) together[q].n = test_random_int(r, 1, 500);
  }
  test_attend(&setup, together, count);
  for (int32_t q = 0; q < count; q++) {
    test_request alone = test_request_copy(&together[q], &shape);
    char text[300];
    setup.random = NULL;
    test_attend(&setup, &alone, 1);
    snprintf(text, sizeof text, "request %d of %d, backend %d: %s", q, count, backend, test_method_name(&alone.position));
    if (split_keys)
      test_requests_same(text, &shape, &together[q], &alone);
    else
      test_requests_close(text, &shape, &together[q], &alone, 1e-5);
    test_request_free(&alone);
    test_request_free(&together[q]);
  }
  free(together);
}

Test(batch_mixed, requests_equal_themselves_alone) {
  test_random r = test_random_start();
  spindle_shape shape = {.num_q_heads = 4, .num_kv_heads = 2, .head_dim_qk = 32};
  for (int round = 0; round < 12; round++) check_mixed(&r, SPINDLE_BACKEND_CPU, 12, round % 2 ? 64 : 0, shape);
  check_mixed(&r, SPINDLE_BACKEND_REFERENCE, 8, 64, shape);
}

Test(batch_mixed, of_narrow_dtypes) {
  test_random r = test_random_start();
  spindle_shape shape = {
      .q_dtype = SPINDLE_BF16, .kv_dtype = SPINDLE_F8E4M3, .num_q_heads = 14, .num_kv_heads = 2, .head_dim_qk = 32};
  for (int round = 0; round < 4; round++) check_mixed(&r, SPINDLE_BACKEND_CPU, 12, 48, shape);
}

Test(batch_mixed, of_a_hundred_requests) {
  test_random r = test_random_start();
  check_mixed(&r, SPINDLE_BACKEND_CPU, 100, 128, (spindle_shape){.num_q_heads = 2, .num_kv_heads = 1, .head_dim_qk = 32});
}
