/* Decode of 1 to 16 query rows over 1 to 20,000 keys, in pages of 1 to 128 slots that are shuffled over a pool three times as
 * large. Slots that hold no key of the request hold NaN: pages of nobody, and the end of the last page. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdio.h>

#include "support/halves.h"
#include "support/methods.h"
#include "support/prepared.h"

#define COUNT(list) ((int)(sizeof list / sizeof *list))

static void is_decode(const spindle_plan *plan) {
  cr_assert_eq(test_prepared(plan).requests[0].list, SPINDLE__LIST_DECODE, "prefill has taken it");
}

/* As many query heads a KV head as pack with so many rows into one tile, or fewer. */
static void check(test_random *r, int32_t rows, int32_t keys, int32_t page_size) {
  static const int32_t dims[][2] = {{64, 64}, {128, 128}, {96, 96}, {192, 128}, {40, 24}};
  const bool is_long = keys > 2000;
  const int32_t *d = dims[test_random_int(r, 0, is_long ? 0 : COUNT(dims) - 1)];
  const int32_t kv_heads = is_long ? 1 : 2, group = (int32_t)test_random_int(r, 1, 16 / rows);
  test_setup setup = {.backend = SPINDLE_BACKEND_CUDA,
                      .shape = {.q_dtype = test_random_once_in(r, 2) ? SPINDLE_F16 : SPINDLE_BF16,
                                .num_q_heads = kv_heads * group,
                                .num_kv_heads = kv_heads,
                                .head_dim_qk = d[0],
                                .head_dim_v = d[1],
                                .pair_layout = (int32_t)test_random_int(r, 0, 1)},
                      .page_size = page_size,
                      .csr = test_random_once_in(r, 2),
                      .pool = 3,
                      .default_q_index = true, /* which may be negative: more rows than keys */
                      .random = r,
                      .inspect = is_decode};
  test_request q = test_request_make(r, &setup.shape, test_rule(SPINDLE_ROPE_YARN, d[0]), rows, keys, 1);
  char text[100];
  snprintf(text, sizeof text, "%d x %d, group %d, dims %d/%d, pages of %d", rows, keys, group, d[0], d[1], page_size);
  test_halves(text, &setup, &q, 1);
  test_request_free(&q);
}

/* Every page size with every length, the numbers of rows in turn. The check build and AddressSanitizer see the shorter half. */
Test(decode_shapes, rows_keys_and_pages) {
  test_random r = test_random_start();
  static const int32_t lengths[] = {1, 2, 17, 63, 64, 65, 127, 339, 799, 1024, 3000, 20000}, pages[] = {1, 4, 16, 64, 128};
  const bool is_slow = emulator_sees_plain_accesses() || !emulator_catches_faults();
  const int32_t first = (int32_t)test_random_int(&r, 0, 15);
  for (int l = 0; l < COUNT(lengths); l++)
    for (int p = 0; p < COUNT(pages); p++)
      if (!is_slow || lengths[l] < 400) check(&r, 1 + (first + 5 * l + p) % 16, lengths[l], pages[p]);
}
