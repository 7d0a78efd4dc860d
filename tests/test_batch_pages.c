/* Where keys lie does not matter: dense or paged, any page size, any order of pages, keys at explicit indices, NaN in every
 * unused slot. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/attend.h"
#include "support/methods.h"

static const spindle_shape shape = {.num_q_heads = 4, .num_kv_heads = 2, .head_dim_qk = 32, .head_dim_v = 24};

static test_request draw(test_random *r) {
  spindle_position p = test_any_method(r, 32);
  int32_t keys = (int32_t)test_random_log(r, 1, 400),
          rows = test_random_once_in(r, 2) ? 1 : (int32_t)test_random_int(r, 1, keys < 70 ? keys : 70);
  p.s2_wrap = 0;
  return test_request_make(r, &shape, p, rows, keys, 1);
}

static void check_storage(test_random *r, int32_t page_size, bool spans, bool csr) {
  test_setup dense = {.backend = SPINDLE_BACKEND_CPU, .shape = shape, .split_keys = 128}, paged = dense;
  test_request request = draw(r), same = test_request_copy(&request, &shape);
  char text[300];
  paged.page_size = page_size;
  paged.spans = spans;
  paged.csr = csr;
  paged.random = r; /* shuffles pages, leaves gaps */
  test_attend(&dense, &request, 1);
  test_attend(&paged, &same, 1);
  snprintf(text, sizeof text, "pages of %d%s%s, %d keys: %s", page_size, spans ? ", spans" : "", csr ? ", csr" : "",
           request.kv_len, test_method_name(&request.position));
  test_requests_same(text, &shape, &same, &request);
  test_request_free(&request);
  test_request_free(&same);
}

Test(batch_pages, results_do_not_depend_on_storage) {
  static const int32_t sizes[] = {1, 3, 16, 64, 128, 500};
  test_random r = test_random_start();
  for (int round = 0; round < 20; round++)
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) check_storage(&r, sizes[s], round % 2, round / 2 % 2);
}

/* Evicted text leaves holes: keys at ascending indices with gaps between them, for which there is no dense form. */
Test(batch_pages, keys_at_explicit_indices_equal_the_oracle) {
  test_random r = test_random_start();
  static const int32_t sizes[] = {1, 16, 64, 128};
  for (int round = 0; round < 60; round++) {
    test_setup setup = {.shape = shape, .page_size = sizes[round % 4], .spans = true, .csr = round % 3 == 0, .random = &r};
    test_request request = draw(&r), oracle;
    int64_t *index = malloc((size_t)request.kv_len * sizeof *index), next = test_random_int(&r, 0, 100);
    for (int32_t s = 0; s < request.kv_len; s++) {
      next += test_random_once_in(&r, 20) ? test_random_log(&r, 1, 1000) : 0;
      index[s] = next++;
    }
    request.key_index = index;
    request.q_index = test_random_int(&r, next / 2, next);
    oracle = test_request_copy(&request, &shape);
    setup.backend = SPINDLE_BACKEND_CPU;
    test_attend(&setup, &request, 1);
    setup.backend = SPINDLE_BACKEND_REFERENCE;
    test_attend(&setup, &oracle, 1);
    test_requests_close(test_method_name(&request.position), &shape, &request, &oracle, 3e-5);
    test_request_free(&request);
    test_request_free(&oracle);
    free(index);
  }
}

/* Left padding, batch rows in any order, and a slice of a text that starts late. */
Test(batch_pages, dense_rows_may_start_anywhere) {
  test_random r = test_random_start();
  for (int round = 0; round < 40; round++) {
    test_setup packed = {.backend = SPINDLE_BACKEND_CPU, .shape = shape, .split_keys = 64}, scattered = packed;
    test_request requests[3], same[3];
    scattered.random = &r;
    for (int q = 0; q < 3; q++) {
      requests[q] = draw(&r);
      requests[q].kv_index = test_random_int(&r, 0, 1000);
      test_request_at_end(&requests[q]);
      same[q] = test_request_copy(&requests[q], &shape);
    }
    test_attend(&packed, requests, 3);
    test_attend(&scattered, same, 3);
    for (int q = 0; q < 3; q++) {
      test_requests_same("scattered dense rows", &shape, &same[q], &requests[q]);
      test_request_free(&requests[q]);
      test_request_free(&same[q]);
    }
  }
}
