/* Tiles that are full, which Hopper copies by TMA: from dense keys, from pages that boxes fit and such that they do not, and from
 * pre-rotated copies, of which a request may have two; at every head dim, 16-bit and e4m3. Segments begin and end within a box.
 */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/halves.h"
#include "support/methods.h"

enum { REQUESTS = 2, DIMS = 5, KINDS = 6, PAGES = 5 };
static const int32_t dims[DIMS][2] = {{64, 64}, {96, 96}, {128, 128}, {192, 128}, {256, 256}}; /* of K and of V */
static const int32_t pages[PAGES] = {0, 16, 48, 128, 20};

/* Raw keys that turn in the loop or before it, and keys that have turned; in caches of bf16, then of e4m3. */
static test_setup setup_of(test_random *r, const int32_t *dim, int32_t kind, int32_t page_size) {
  const int32_t keys = kind % 3;
  return (test_setup){.backend = SPINDLE_BACKEND_CUDA,
                      .shape = {.q_dtype = SPINDLE_BF16,
                                .kv_dtype = kind < 3 ? SPINDLE_BF16 : SPINDLE_F8E4M3,
                                .num_q_heads = 2,
                                .head_dim_qk = dim[0],
                                .head_dim_v = dim[1],
                                .key_state = keys == 2 ? SPINDLE_KEYS_ROTATED : SPINDLE_KEYS_RAW},
                      .schedule = keys == 0 ? SPINDLE_SCHEDULE_IN_LOOP : SPINDLE_SCHEDULE_PREROTATE,
                      .page_size = page_size,
                      .random = r};
}

static void check(test_random *r, const int32_t *dim, int32_t kind, int32_t page_size, int32_t max_kv_len) {
  test_setup setup = setup_of(r, dim, kind, page_size);
  spindle_position p[REQUESTS] = {test_rule(SPINDLE_ROPE_DEFAULT, dim[0]), test_rule(SPINDLE_ROPE_DEFAULT, dim[0])};
  test_request requests[REQUESTS];
  char text[80];
  setup.max_kv_len = max_kv_len;
  p[0].window_left = 260;
  if (kind % 3 < 2) p[1] = test_remap(p[1], SPINDLE_REMAP_SELF_EXTEND);
  for (int32_t q = 0; q < REQUESTS; q++) requests[q] = test_request_make(r, &setup.shape, p[q], 40, 310 + 20 * q, 1);
  snprintf(text, sizeof text, "head dims %d/%d, kind %d, pages of %d", dim[0], dim[1], kind, page_size);
  emulator_forget();
  test_halves(text, &setup, requests, REQUESTS);
  if (page_size % 16 == 0) cr_assert_gt(emulator_work_done().bulk_bytes, 0, "%s: nothing came by TMA", text);
  for (int32_t q = 0; q < REQUESTS; q++) test_request_free(&requests[q]);
}

/* Every head dim with every kind of keys. */
Test(prefill_boxes, from_anywhere) {
  test_random r = test_random_start();
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  const int32_t step = emulator_sees_plain_accesses() ? 7 : 1; /* 7: all dims, five kinds */
  for (int32_t x = 0; x < DIMS * KINDS; x += step) check(&r, dims[x % DIMS], x % KINDS, pages[(x + x / DIMS) % PAGES], 0);
}

/* Bounds by which the pre-rotated keys of two heads do not fit scratch: a launch each. */
Test(prefill_boxes, of_a_head_at_a_time) {
  test_random r = test_random_start();
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  check(&r, dims[DIMS - 1], 1, 16, 66000);
}

/* More boxes than a table of those ahead holds: pages whose indices jump between some tiles and within others, one of them only
 * part full, which ends what comes without a stop; and dense keys. */
Test(prefill_boxes, of_several_tables) {
  enum { KEYS = 1700, DENSE = 4300 };
  static int64_t index[KEYS];
  test_random r = test_random_start();
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  for (int32_t j = 0; j < KEYS; j++) index[j] = j + j / 48 * 5 + (j >= 1100) * 7;
  for (int32_t kind = 0; kind < KINDS; kind++) {
    const bool dense = kind == 2;
    test_setup setup = setup_of(NULL, dims[0], kind, dense ? 0 : 16);
    test_request q = test_request_make(&r, &setup.shape, test_rule(SPINDLE_ROPE_DEFAULT, 64), 40, dense ? DENSE : KEYS, 1);
    setup.spans = !dense;
    setup.split_keys = 2 * DENSE; /* else blocks share the keys, a table's or less each */
    q.key_index = dense ? NULL : index;
    q.q_index = (dense ? DENSE : index[KEYS - 1] + 1) - q.q_len;
    q.n = q.q_index + q.q_len;
    test_halves(dense ? "dense" : "pages with gaps", &setup, &q, 1);
    test_request_free(&q);
  }
}
