/* Tiles of decode that are full, which devices from 9.0 on copy by TMA: from dense keys, from pages that boxes fit and such that
 * they do not, 16-bit and e4m3, beside tiles with holes, which threads copy. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/halves.h"
#include "support/layer.h"
#include "support/methods.h"

enum { DIMS = 4, KINDS = 5, PAGES = 8 };
static const int32_t dims[DIMS] = {64, 96, 128, 256}, pages[PAGES] = {0, 16, 8, 20, 48, 128, 4, 64};

/* Raw keys that turn in the loop or before it, and keys that have turned; caches of Q's type and of e4m3. */
static test_setup setup_of(test_random *r, int32_t dim, int32_t kind, int32_t page_size) {
  return (test_setup){.backend = SPINDLE_BACKEND_CUDA,
                      .shape = {.q_dtype = kind % 2 ? SPINDLE_F16 : SPINDLE_BF16,
                                .kv_dtype = kind >= 2 ? SPINDLE_F8E4M3 : 0,
                                .num_q_heads = 4,
                                .num_kv_heads = 2,
                                .head_dim_qk = dim,
                                .head_dim_v = dim == 96 ? 80 : 0,
                                .key_state = kind == 1 || kind == 4 ? SPINDLE_KEYS_ROTATED : SPINDLE_KEYS_RAW},
                      .schedule = kind == 3 ? SPINDLE_SCHEDULE_PREROTATE : SPINDLE_SCHEDULE_IN_LOOP,
                      .page_size = page_size,
                      .random = r};
}

static bool fits(int32_t page_size) { return page_size % 16 == 0; }

static test_request make(test_random *r, const test_setup *setup, int32_t dim) {
  spindle_position p = test_rule(SPINDLE_ROPE_YARN, dim);
  p.window_left = (int32_t)test_random_int(r, 300, 600);
  return test_request_make(r, &setup->shape, p, (int32_t)test_random_int(r, 1, 8), (int32_t)test_random_int(r, 500, 900), 1);
}

/* Every head dim with every kind of keys, against the reference. */
Test(decode_boxes, from_anywhere) {
  test_random r = test_random_start();
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  for (int32_t x = 0; x < DIMS * KINDS; x += emulator_sees_plain_accesses() ? 3 : 1) { /* 3: all dims and kinds */
    const int32_t dim = dims[x % DIMS], kind = x % KINDS, page_size = pages[x % PAGES];
    test_setup setup = setup_of(&r, dim, kind, page_size);
    test_request q = make(&r, &setup, dim);
    char text[80];
    snprintf(text, sizeof text, "head dim %d, kind %d, pages of %d", dim, kind, page_size);
    emulator_forget();
    test_halves(text, &setup, &q, 1);
    cr_assert_eq(emulator_work_done().bulk_bytes > 0, fits(page_size), "%s: %llu bytes by TMA", text,
                 (unsigned long long)emulator_work_done().bulk_bytes);
    test_request_free(&q);
  }
}

/* Boxes and threads bring the same bits. Entries with holes (spans) have tiles of both kinds, and other keys in a tile. */
Test(decode_boxes, bits_are_those_of_threads) {
  test_random r = test_random_start();
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  for (int32_t x = 0; x < DIMS * KINDS; x += emulator_sees_plain_accesses() ? 7 : 1) { /* 7: most dims and kinds */
    const int32_t dim = dims[x % DIMS], kind = (x + 2) % KINDS;
    test_setup threads = setup_of(&r, dim, kind, 20), boxes = setup_of(&r, dim, kind, 0);
    test_request one = make(&r, &threads, dim), two = test_request_copy(&one, &threads.shape);
    do boxes.page_size = pages[test_random_int(&r, 0, PAGES - 1)];
    while (!fits(boxes.page_size));
    test_attend(&threads, &one, 1);
    test_attend(&boxes, &two, 1);
    test_requests_same("pages of threads and of boxes", &threads.shape, &two, &one);
    test_request_free(&one);
    test_request_free(&two);
  }
}

/* A tile with holes, which threads copy, before and after one that comes in boxes. */
Test(decode_boxes, beside_holes) {
  static const emulator_options options[] = {{.copies = EMULATOR_EAGER, .order = EMULATOR_DESCENDING},
                                             {.copies = EMULATOR_RANDOM, .order = EMULATOR_SHUFFLED, .seed = 7},
                                             {0}};
  test_random r = test_random_start();
  setenv("SPINDLE_EMULATED_ARCH", "90", 1);
  for (int32_t x = 0; x < 2 * KINDS; x++) {
    const int32_t dim = dims[x % DIMS];
    test_setup setup = setup_of(&r, dim, x % KINDS, 64);
    setup.spans = true;
    emulator_configure(&options[x % 3]);
    test_request q = test_request_make(&r, &setup.shape, test_rule(SPINDLE_ROPE_YARN, dim), 2, 1500, 1);
    test_halves("spans", &setup, &q, 1);
    test_request_free(&q);
  }
}

/* Raw keys have the same bits whether they are rotated when they are read or before, wherever the text begins: runs of keys that
 * begin at a multiple of 8 are rotated by code of their own. */
Test(decode_boxes, rotated_in_the_loop_or_before) {
  test_random r = test_random_start();
  for (int32_t x = 0; x < 16; x += emulator_sees_plain_accesses() ? 5 : 1) {
    setenv("SPINDLE_EMULATED_ARCH", x % 3 ? "90" : "80", 1);
    test_setup now = setup_of(&r, dims[x % 3], 0, pages[x % 2]);
    now.shape.pair_layout = x / 8 ? SPINDLE_PAIRS_INTERLEAVED : SPINDLE_PAIRS_HALF;
    test_setup before = now;
    before.schedule = SPINDLE_SCHEDULE_PREROTATE;
    test_request one = test_request_make(&r, &now.shape, test_rule(SPINDLE_ROPE_YARN, dims[x % 3]), 2, 300, 1);
    one.kv_index = x;
    test_request_at_end(&one);
    test_request two = test_request_copy(&one, &now.shape);
    test_attend(&now, &one, 1);
    test_attend(&before, &two, 1);
    test_requests_same("in the loop and before it", &now.shape, &two, &one);
    test_request_free(&one);
    test_request_free(&two);
  }
}
