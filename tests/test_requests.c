/* Where a request's keys lie, against a walk over its storage: dense rows and paged ones, with gaps, holes and shards, and values
 * out of range in every array. */
#include <criterion/criterion.h>
#include <inttypes.h>

#include "host/internal.h"
#include "support/batches.h"

#define MAX_REQUESTS 4

/* ---- What the batch says, slot by slot ---- */

typedef struct walk {
  int32_t slots, keys; /* slots: up to the last one that holds a key */
  spindle__key slot[TEST_BATCH_SLOTS];
} walk;

static int64_t in_range(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

/* The index of this rank's token after `index`: blocks of shard_size go around. index -1: its first. */
static int64_t next_of_shard(const spindle_batch *b, int64_t index) {
  do index++;
  while (index / b->shard_size % b->shard_count != b->shard_rank);
  return index;
}

static void walk_slots(const test_batch *w, int32_t k, walk *out) {
  const spindle_batch *b = &w->batch;
  int64_t wanted = in_range(w->kv_len[k], 0, w->bounds.max_kv_len), token = -1;
  int64_t origin = b->kv_index ? in_range(w->kv_index[k], 0, SPINDLE__MAX_INDEX - 1) : 0;
  int64_t begin = b->kv_begin ? in_range(w->kv_begin[k], 0, b->dense_rows) : 0;
  int64_t entry = !b->page_size ? 0 : b->table_begin ? w->table_begin[k] : k * b->table_stride;
  int64_t entries = !b->page_size ? 0 : b->table_begin ? w->table_begin[k + 1] - entry : b->table_stride;
  int64_t slots = b->page_size ? entries * b->page_size : b->dense_rows - begin;
  out->slots = out->keys = 0;
  for (int32_t u = 0; u < slots && out->keys < wanted; u++) {
    spindle__key *at = &out->slot[u];
    *at = (spindle__key){0, 0, (int32_t)begin + u, 1};
    token = next_of_shard(b, token);
    at->index = token + origin;
    if (b->page_size) {
      int64_t e = entry + u / b->page_size;
      at->row = u % b->page_size;
      at->page = (int32_t)in_range(w->pages[e], 0, b->num_pages - 1);
      if (b->page_index) at->index = w->page_index[e] + at->row;
      if (b->page_span) at->run = at->row >= (int32_t)(w->page_span[e] & 0xffff) && at->row < (int32_t)(w->page_span[e] >> 16);
    } else {
      at->page = (int32_t)in_range(b->kv_batch ? w->kv_batch[k] : k, 0, b->num_pages - 1);
    }
    out->keys += at->run;
    if (at->run) out->slots = u + 1;
  }
}

/* ---- Checks ---- */

static void check_request(const test_batch *w, int32_t k, const walk *truth, const spindle__request *q) {
  const spindle__bounds *o = &w->bounds;
  int32_t first = 0;
  while (first < truth->slots && !truth->slot[first].run) first++;
  cr_assert_eq(q->kv_len, truth->keys);
  cr_assert_eq(q->q_begin, in_range(w->q_begin[k], 0, o->max_q_rows));
  cr_assert_eq(q->q_len, in_range(w->q_len[k], 0, spindle__min(o->max_q_len, o->max_q_rows - q->q_begin)));
  cr_assert_eq(q->slot, w->batch.position ? in_range(w->position[k], 0, o->capacity - 1) : 0);
  cr_assert(q->n >= 1 && q->n <= SPINDLE__MAX_INDEX);
  cr_assert(q->q_index >= -SPINDLE__MAX_INDEX && q->q_index + q->q_len <= SPINDLE__MAX_INDEX);
  if (!truth->keys || truth->slot[first].index >= SPINDLE__MAX_INDEX) {
    cr_assert(q->key_lo == 0 && q->key_hi == 0, "keys [%" PRId64 ", %" PRId64 ") of none", q->key_lo, q->key_hi);
    return;
  }
  cr_assert_eq(q->key_lo, truth->slot[first].index);
  cr_assert_eq(q->key_hi, spindle__min(truth->slot[truth->slots - 1].index + 1, SPINDLE__MAX_INDEX));
}

static void check_slots(const test_batch *w, const walk *truth, const spindle__request *q) {
  const spindle_batch *b = &w->batch;
  int64_t slots = spindle__num_slots(b, q);
  cr_assert(slots >= truth->slots && slots - truth->slots < (b->page_size ? b->page_size : 1), "%" PRId64 " slots, %d with keys",
            slots, truth->slots);
  for (int64_t u = -3; u < slots + 3; u++) {
    spindle__key key = spindle__key_at(b, q, u);
    cr_assert(key.page >= 0 && key.page < b->num_pages, "page %d", key.page);
    cr_assert(key.row >= 0 && key.row < (b->page_size ? b->page_size : b->dense_rows), "row %d", key.row);
    const spindle__key *want = u >= 0 && u < truth->slots ? &truth->slot[u] : NULL;
    cr_assert_eq(key.run > 0, want && want->run, "slot %" PRId64, u);
    if (!key.run) continue;
    const spindle__key *last = want + key.run - 1, *after = want + key.run < truth->slot + truth->slots ? want + key.run : NULL;
    cr_assert(last->run && last->page == want->page && last->row == want->row + key.run - 1, "slot %" PRId64, u);
    cr_assert(!after || !after->run || after->row == 0, "the run of slot %" PRId64 " ends early", u);
    cr_assert(key.index == want->index && key.page == want->page && key.row == want->row, "slot %" PRId64, u);
  }
}

static void check_range(const test_batch *w, const walk *truth, const spindle__request *q, int64_t j0, int64_t j1) {
  const spindle_batch *b = &w->batch;
  int64_t u0, u1, size = b->page_index ? b->page_size : 1;
  spindle__slots_in(b, q, j0, j1, &u0, &u1);
  cr_assert(0 <= u0 && u0 <= u1 && u1 <= truth->slots && (u0 == u1 || u0 % size == 0), "[%" PRId64 ", %" PRId64 ")", u0, u1);
  spindle__key_cursor cursor = spindle__keys_in(b, q, j0, j1);
  spindle__key_run run = {0};
  int32_t taken = 0;
  for (int32_t u = 0; u < truth->slots; u++) {
    const spindle__key *at = &truth->slot[u];
    bool wanted = at->run && at->index >= j0 && at->index < j1;
    cr_assert(!wanted || (u0 <= u && u < u1), "slot %d is outside of [%" PRId64 ", %" PRId64 ")", u, u0, u1);
    if (!b->page_index) cr_assert_eq(u0 <= u && u < u1, at->index >= j0 && at->index < j1, "slot %d", u);
    if (!wanted) continue;
    if (taken == run.count) {
      cr_assert(spindle__keys_next(&cursor, &run), "slot %d is walked", u);
      taken = 0;
    }
    cr_assert(run.index + taken == at->index && run.page == at->page && run.row + taken == at->row, "slot %d is walked", u);
    taken++;
  }
  cr_assert(taken == run.count && !spindle__keys_next(&cursor, &run), "the walk ends");
}

/* Entries within the slots hold keys of the range, or none at all. */
static void check_entries(const test_batch *w, const walk *truth, const spindle__request *q, int64_t j0, int64_t j1) {
  int64_t u0, u1, size = w->batch.page_size;
  spindle__slots_in(&w->batch, q, j0, j1, &u0, &u1);
  for (int64_t base = u0; base < u1; base += size) {
    int32_t in = 0, out = 0;
    for (int64_t u = base; u < spindle__min(base + size, u1); u++) {
      bool wanted = truth->slot[u].index >= j0 && truth->slot[u].index < j1;
      in += truth->slot[u].run && wanted;
      out += truth->slot[u].run && !wanted;
    }
    cr_assert(in || !out, "slots from %" PRId64 " on have no key of [%" PRId64 ", %" PRId64 ")", base, j0, j1);
  }
}

Test(requests, keys_lie_where_the_batch_says) {
  static test_batch w;
  static walk truth;
  test_random r = test_random_start();
  for (int32_t round = 0; round < 3000; round++) {
    test_batch_draw(&r, MAX_REQUESTS, &w);
    for (int32_t k = 0; k < MAX_REQUESTS; k++) {
      spindle__request q;
      spindle__read_request(&w.batch, &w.bounds, k, &q);
      walk_slots(&w, k, &truth);
      check_request(&w, k, &truth, &q);
      check_slots(&w, &truth, &q);
      for (int32_t x = 0; x < 6; x++) {
        int64_t j0 = test_random_int(&r, q.key_lo - 5, q.key_hi + 5),
                j1 = test_random_int(&r, j0 + 1, spindle__max(j0 + 2, q.key_hi + 5));
        check_range(&w, &truth, &q, j0, j1);
        if (w.batch.page_index) check_entries(&w, &truth, &q, j0, j1);
      }
      check_range(&w, &truth, &q, q.key_lo, q.key_hi);
      check_range(&w, &truth, &q, -((int64_t)1 << 60), (int64_t)1 << 60);
    }
  }
}

/* Indices that do not ascend, or are out of range, mislead the searches, but never out of the request's slots. */
Test(requests, garbage_stays_inside) {
  static test_batch w;
  test_random r = test_random_start();
  for (int32_t round = 0; round < 3000; round++) {
    test_batch_draw(&r, MAX_REQUESTS, &w);
    for (int32_t e = 0; e < TEST_BATCH_TABLE; e++) {
      w.page_index[e] = test_batch_wild(&r, test_random_int(&r, -1000, 100000));
      w.page_span[e] = (uint32_t)test_random_u64(&r);
    }
    for (int32_t k = 0; k < MAX_REQUESTS; k++) {
      spindle__request q;
      spindle__read_request(&w.batch, &w.bounds, k, &q);
      cr_assert(0 <= q.key_lo && q.key_lo <= q.key_hi && q.key_hi <= SPINDLE__MAX_INDEX);
      int64_t u0, u1, slots = spindle__num_slots(&w.batch, &q), j0 = test_batch_wild(&r, test_random_int(&r, -10, 100000));
      spindle__slots_in(&w.batch, &q, spindle__max(j0, -((int64_t)1 << 60)), 50000, &u0, &u1);
      cr_assert(0 <= u0 && u0 <= u1 && u1 <= slots, "[%" PRId64 ", %" PRId64 ") of %" PRId64, u0, u1, slots);
      spindle__key key = spindle__key_at(&w.batch, &q, test_random_int(&r, -5, slots + 5));
      cr_assert(key.page >= 0 && key.page < w.batch.num_pages && key.row >= 0);
      cr_assert_lt(key.row, w.batch.page_size ? w.batch.page_size : w.batch.dense_rows);
    }
  }
}

/* Closed forms at the ends of their ranges: no walk, and no arithmetic in too few bits. */
Test(requests, long_texts) {
  int32_t q_begin = 0, q_len = 1, kv_len = INT32_MAX, page = 7;
  int64_t kv_index = SPINDLE__MAX_INDEX - ((int64_t)1 << 32);
  spindle__bounds bounds = {1, 1, 1, INT32_MAX};
  spindle_batch b = {.max_requests = 1,
                     .page_size = 65535,
                     .num_pages = 8,
                     .shard_size = 1,
                     .shard_count = 1,
                     .q_begin = &q_begin,
                     .q_len = &q_len,
                     .kv_len = &kv_len,
                     .kv_index = &kv_index,
                     .pages = &page,
                     .table_stride = (int64_t)1 << 40};
  spindle__request q;
  spindle__read_request(&b, &bounds, 0, &q);
  cr_assert(q.kv_len == INT32_MAX && q.num_entries == 32769 && q.last_end == 32767);
  cr_assert(q.key_lo == kv_index && q.key_hi == kv_index + INT32_MAX);
  int64_t u0, u1;
  spindle__slots_in(&b, &q, kv_index + INT32_MAX - 5, kv_index + INT32_MAX + 5, &u0, &u1);
  cr_assert(u0 == INT32_MAX - 5 && u1 == INT32_MAX);
}
