/* One page at several positions: of two texts that share a prefix, of a text that quotes it off page borders, and twice in one
 * text. Each place reads it as if the keys had been written there. */
#include <criterion/criterion.h>

#include "support/methods.h"
#include "support/paged.h"

enum { PAGE = TEST_PAGED_PAGE, SHARED = 4 /* pages 0 to 3 */ };

static const spindle_shape shape = {.q_dtype = SPINDLE_F16, .num_q_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64};

/* Own pages of a request begin here. */
static int32_t own(int32_t request) { return SHARED + 14 * request; }

static void add_pages(test_paged *p, int32_t request, int32_t e, int32_t page, int32_t count, int64_t index) {
  for (int32_t x = 0; x < count; x++) test_paged_entry(p, request, e + x, page + x, 0, PAGE, index + x * PAGE);
}

/* Requests 0 and 1 begin with the shared pages, under different rules. */
static void share_a_prefix(test_paged *p) {
  for (int32_t x = 0; x < 2; x++) {
    add_pages(p, x, 0, 0, SHARED, 0);
    add_pages(p, x, SHARED, own(x), 4 + 2 * x, SHARED * PAGE);
    p->batch->kv_len[x] = (SHARED + 4 + 2 * x) * PAGE;
    p->batch->q_index[x] = p->batch->kv_len[x] - 3;
  }
}

/* Request 2: 37 tokens of its own, the shared ones but for the first 5 and the last 9, then its own again. */
static void quote(test_paged *p) {
  const int32_t begin = 37, x = 2;
  add_pages(p, x, 0, own(x), 3, 0);
  p->batch->page_span[x][2] = (begin - 2 * PAGE) << 16;
  add_pages(p, x, 3, 0, SHARED, begin - 5);
  p->batch->page_span[x][3] = 5 | PAGE << 16;
  p->batch->page_span[x][2 + SHARED] = (PAGE - 9) << 16;
  const int32_t end = begin + SHARED * PAGE - 5 - 9;
  add_pages(p, x, 3 + SHARED, own(x) + 3, 5, end);
  p->batch->kv_len[x] = end + 5 * PAGE;
  p->batch->q_index[x] = p->batch->kv_len[x] - p->batch->q_len[x];
}

/* Request 3: the same page at the beginning, right after that, and once more behind a gap of evicted text. */
static void repeat(test_paged *p) {
  const int32_t x = 3;
  add_pages(p, x, 0, 0, 1, 0);
  add_pages(p, x, 1, 0, 1, PAGE);
  add_pages(p, x, 2, own(x), 6, 2 * PAGE);
  add_pages(p, x, 8, 0, 1, 1000);
  p->batch->kv_len[x] = 9 * PAGE;
  p->batch->q_index[x] = 1000 + PAGE - 2;
}

static void check(test_random *r, int32_t schedule, int32_t split_keys) {
  static const int32_t rows[TEST_PAGED_REQUESTS] = {3, 3, 30, 2}; /* the third is prefill's */
  const test_setup setup = {.shape = shape, .schedule = schedule, .split_keys = split_keys};
  test_paged p = test_paged_open(r, &setup);
  int64_t slot[TEST_PAGED_KEYS];
  for (int32_t first = 0; first < TEST_PAGED_PAGES * PAGE; first += TEST_PAGED_KEYS) {
    for (int32_t s = 0; s < TEST_PAGED_KEYS; s++) slot[s] = first + s;
    test_paged_append(&p, r, slot, TEST_PAGED_KEYS);
  }
  for (int32_t x = 0, row = 0; x < TEST_PAGED_REQUESTS; row += rows[x++]) {
    p.batch->q_begin[x] = row;
    p.batch->q_len[x] = rows[x];
    spindle_position position = test_any_method(r, shape.head_dim_qk);
    position.s2_wrap = 0;
    test_paged_set(&p, x, position);
  }
  share_a_prefix(&p);
  quote(&p);
  repeat(&p);
  for (int32_t x = 0; x < TEST_PAGED_REQUESTS; x++) p.batch->n[x] = p.batch->q_index[x] + p.batch->q_len[x];
  test_paged_check("shared pages", &p);
  test_paged_close(&p);
}

Test(shared_pages, are_read_at_each_position) {
  test_random r = test_random_start();
  for (int32_t round = 0; round < 12; round++)
    check(&r, round % 2 ? SPINDLE_SCHEDULE_IN_LOOP : SPINDLE_SCHEDULE_PREROTATE, round / 2 % 2 * 50);
}
