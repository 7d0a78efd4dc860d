/* Division as device code does it: 32 bits where they do, else bit by bit. */
#include <criterion/criterion.h>
#include <inttypes.h>

#include "kernels/common.h"
#include "support/random.h"

static void check(int64_t x, int64_t d) {
  int64_t rest, quotient = spindle__divide(x, d, &rest);
  cr_assert(quotient == x / d && rest == x % d, "%" PRId64 " / %" PRId64, x, d);
}

Test(divide, any_width) {
  static const int64_t edges[] = {1, 2, UINT32_MAX, (int64_t)1 << 32, ((int64_t)1 << 32) + 1, (int64_t)1 << 62, INT64_MAX};
  test_random r = test_random_start();
  for (size_t a = 0; a < sizeof edges / sizeof *edges; a++)
    for (size_t b = 0; b < sizeof edges / sizeof *edges; b++) check(edges[a] - 1, edges[b]);
  for (int32_t round = 0; round < 100000; round++)
    check((int64_t)(test_random_u64(&r) >> test_random_int(&r, 1, 63)),
          (int64_t)(test_random_u64(&r) >> test_random_int(&r, 1, 63)) | 1);
}
