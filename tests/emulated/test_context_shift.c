/* A text that outgrows its cache is shifted a hundred times: the oldest tokens after the first few go, those behind them move up,
 * and new ones follow. Keys hold no position, so a shift edits page_index and page_span and nothing else, and what is computed
 * after a hundred is as good as after one. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <stdio.h>
#include <string.h>

#include "support/methods.h"
#include "support/paged.h"

enum { KEPT = 4, CAPACITY = 200, SHIFTS = 100, SOME = 20, PAGE = TEST_PAGED_PAGE };

typedef struct entry {
  int32_t page, first, end;
  int64_t index; /* of slot 0 */
} entry;

typedef struct text {
  entry entry[TEST_PAGED_ENTRIES];
  int32_t entries, length;
  int32_t unused[TEST_PAGED_PAGES], num_unused;
} text;

static text start_text(test_random *r) {
  text t = {.num_unused = TEST_PAGED_PAGES};
  test_random_permutation(r, t.unused, TEST_PAGED_PAGES);
  return t;
}

/* New tokens up to the capacity, into the last page and fresh ones. */
static void grow(test_paged *p, test_random *r, text *t) {
  int64_t slot[CAPACITY];
  int32_t count = 0;
  for (; t->length < CAPACITY; t->length++) {
    if (!t->entries || t->entry[t->entries - 1].end == PAGE)
      t->entry[t->entries++] = (entry){.page = t->unused[--t->num_unused], .index = t->length};
    entry *last = &t->entry[t->entries - 1];
    slot[count++] = (int64_t)last->page * PAGE + last->end++;
  }
  test_paged_append(p, r, slot, count);
}

static bool holds(const text *t, int32_t page) {
  for (int32_t e = 0; e < t->entries; e++)
    if (t->entry[e].page == page) return true;
  return false;
}

/* Tokens [KEPT, KEPT + dropped) go. A page may hold some before and some behind them: two entries. */
static void shift(text *t, int32_t dropped) {
  const text before = *t;
  t->entries = 0;
  t->length -= dropped;
  for (int32_t e = 0; e < before.entries; e++) {
    entry first = before.entry[e], rest = first;
    const int64_t from = KEPT - first.index, to = from + dropped; /* of the page's slots */
    if (from < first.end) first.end = (int32_t)(from > first.first ? from : first.first);
    if (to > rest.first) rest.first = (int32_t)(to < rest.end ? to : rest.end);
    rest.index -= dropped;
    if (first.first < first.end) t->entry[t->entries++] = first;
    if (rest.first < rest.end && from < rest.end) t->entry[t->entries++] = rest;
  }
  for (int32_t e = 0; e < before.entries; e++) {
    const int32_t page = before.entry[e].page;
    const bool again = e && before.entry[e - 1].page == page;
    if (!again && !holds(t, page)) t->unused[t->num_unused++] = page;
  }
}

/* Three decode requests and a prefill of the same text. */
static void set_requests(test_paged *p, const text *t) {
  static const int32_t rows[TEST_PAGED_REQUESTS] = {1, 4, 2, 20};
  for (int32_t x = 0, row = 0; x < TEST_PAGED_REQUESTS; row += rows[x++]) {
    p->batch->q_begin[x] = row;
    p->batch->q_len[x] = rows[x];
    p->batch->kv_len[x] = t->length;
    p->batch->q_index[x] = t->length - rows[x];
    p->batch->n[x] = t->length;
    for (int32_t e = 0; e < t->entries; e++) {
      const entry *at = &t->entry[e];
      test_paged_entry(p, x, e, at->page, at->first, at->end, at->index);
    }
  }
}

Test(context_shift, a_hundred_times_without_drift) {
  test_random r = test_random_start();
  const test_setup setup = {
      .shape = {.q_dtype = SPINDLE_BF16, .o_dtype = SPINDLE_F32, .num_q_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64}};
  const int32_t every = emulator_sees_plain_accesses() || !emulator_catches_faults() ? 10 : 2;
  test_paged p = test_paged_open(&r, &setup);
  text t = start_text(&r);
  double early = 0, late = 0;
  test_paged_set(&p, 0, test_rule(SPINDLE_ROPE_DEFAULT, 64));
  test_paged_set(&p, 1, test_rule(SPINDLE_ROPE_DYNAMIC_NTK, 64));
  test_paged_set(&p, 2, test_remap(test_rule(SPINDLE_ROPE_YARN, 64), SPINDLE_REMAP_REROPE));
  test_paged_set(&p, 3, test_remap(test_rule(SPINDLE_ROPE_DEFAULT, 64), SPINDLE_REMAP_STREAMING));
  grow(&p, &r, &t);
  for (int32_t shifts = 1; shifts <= SHIFTS; shifts++) {
    char what[40];
    shift(&t, (int32_t)test_random_int(&r, 1, 60));
    grow(&p, &r, &t);
    if (shifts % every) continue;
    set_requests(&p, &t);
    snprintf(what, sizeof what, "after %d shifts", shifts);
    const double off = test_paged_check(what, &p);
    if (shifts <= SOME) early += off;
    if (shifts > SHIFTS - SOME) late += off;
  }
  /* Errors that added up would be three times as large: the root of nine times as many shifts. */
  cr_assert_lt(late, 1.2 * early, "off by %.3g in the first shifts, by %.3g in the last", early / SOME, late / SOME);
  test_paged_close(&p);
}
