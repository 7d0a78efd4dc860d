#include "batches.h"

#include <string.h>

/* x, or now and then a value out of every range. */
static int32_t wild(test_random *r, int64_t x) {
  static const int32_t extremes[] = {INT32_MIN, -1, 0, INT32_MAX};
  return test_random_once_in(r, 12) ? extremes[test_random_int(r, 0, 3)] : (int32_t)x;
}

int64_t test_batch_wild(test_random *r, int64_t x) {
  static const int64_t extremes[] = {INT64_MIN, -1, SPINDLE__MAX_INDEX, INT64_MAX};
  return test_random_once_in(r, 12) ? extremes[test_random_int(r, 0, 3)] : x;
}

static void draw_span(test_random *r, test_batch *w, int32_t e) {
  int32_t size = w->batch.page_size;
  uint32_t first = (uint32_t)test_random_int(r, 0, size), end = (uint32_t)test_random_int(r, 0, size);
  if (test_random_once_in(r, 2)) first = 0;
  if (test_random_once_in(r, 2)) end = test_random_once_in(r, 4) ? 65535 : (uint32_t)size;
  w->page_span[e] = first | end << 16;
}

/* Tables, one behind the other or at a stride. Valid slots ascend; the index of an entry that holds no key says nothing. */
static void draw_tables(test_random *r, test_batch *w) {
  spindle_batch *b = &w->batch;
  int32_t requests = b->max_requests,
          most = requests * TEST_BATCH_ENTRIES <= TEST_BATCH_TABLE ? TEST_BATCH_ENTRIES : TEST_BATCH_TABLE / requests;
  int32_t sizes[] = {1, 3, 16, 64, 128}, used = 0;
  bool csr = test_random_once_in(r, 2), spans = test_random_once_in(r, 2),
       indices = b->shard_count == 1 && test_random_once_in(r, 2);
  b->page_size = sizes[test_random_int(r, 0, 4)];
  b->pages = w->pages;
  b->table_stride = test_random_int(r, 1, most);
  if (csr) b->table_begin = w->table_begin;
  if (spans) b->page_span = w->page_span;
  if (indices) b->page_index = w->page_index;
  for (int32_t k = 0; k < b->max_requests; k++) {
    int32_t entries = csr ? (int32_t)test_random_int(r, 0, most) : (int32_t)b->table_stride;
    int64_t next = test_random_log(r, 1, 100000) - 1;
    w->table_begin[k] = used;
    for (int32_t e = used; e < used + entries; e++) {
      w->pages[e] = wild(r, test_random_int(r, 0, b->num_pages - 1));
      draw_span(r, w, e);
      int32_t first = spans ? (int32_t)(w->page_span[e] & 0xffff) : 0;
      int32_t end = spans ? (int32_t)spindle__min(w->page_span[e] >> 16, b->page_size) : b->page_size;
      w->page_index[e] = first < end ? next - first : test_random_int(r, -1000, 100000);
      if (first < end) next += end - first + (test_random_once_in(r, 2) ? test_random_log(r, 1, 1000) : 0);
    }
    used += entries;
  }
  w->table_begin[requests] = used;
}

static void draw_dense(test_random *r, test_batch *w) {
  spindle_batch *b = &w->batch;
  b->dense_rows = (int32_t)test_random_log(r, 1, TEST_BATCH_SLOTS);
  if (test_random_once_in(r, 2)) b->kv_begin = w->kv_begin;
  if (test_random_once_in(r, 2)) b->kv_batch = w->kv_batch;
  for (int32_t k = 0; k < b->max_requests; k++) {
    w->kv_begin[k] = wild(r, test_random_int(r, 0, b->dense_rows));
    w->kv_batch[k] = wild(r, test_random_int(r, 0, b->num_pages - 1));
  }
}

void test_batch_draw(test_random *r, int32_t requests, test_batch *w) {
  memset(w, 0, sizeof *w);
  spindle_batch *b = &w->batch;
  w->bounds = (spindle__bounds){(int32_t)test_random_log(r, 1, 5000), (int32_t)test_random_log(r, 1, 1000),
                                (int32_t)test_random_log(r, 1, 100), test_random_log(r, 1, TEST_BATCH_SLOTS)};
  b->max_requests = requests;
  b->num_pages = (int32_t)test_random_log(r, 1, 1000);
  b->shard_count = test_random_once_in(r, 2) ? (int32_t)test_random_log(r, 1, 9) : 1;
  b->shard_size = (int32_t)test_random_log(r, 1, 200);
  b->shard_rank = (int32_t)test_random_int(r, 0, b->shard_count - 1);
  for (int32_t k = 0; k < b->max_requests; k++) {
    w->q_begin[k] = wild(r, test_random_int(r, 0, w->bounds.max_q_rows));
    w->q_len[k] = wild(r, test_random_int(r, 0, w->bounds.max_q_len));
    w->kv_len[k] = wild(r, test_random_int(r, 0, w->bounds.max_kv_len));
    w->position[k] = wild(r, test_random_int(r, 0, w->bounds.capacity - 1));
    w->q_index[k] = test_batch_wild(r, test_random_int(r, 0, 100000));
    w->n[k] = test_batch_wild(r, test_random_int(r, 1, 100000));
    w->kv_index[k] = test_batch_wild(r, test_random_log(r, 1, 100000) - 1);
  }
  b->q_begin = w->q_begin;
  b->q_len = w->q_len;
  b->kv_len = w->kv_len;
  if (test_random_once_in(r, 2)) b->position = w->position;
  if (test_random_once_in(r, 2)) b->q_index = w->q_index;
  if (test_random_once_in(r, 2)) b->n = w->n;
  if (test_random_once_in(r, 3))
    draw_dense(r, w);
  else
    draw_tables(r, w);
  if (!b->page_index && test_random_once_in(r, 2)) b->kv_index = w->kv_index;
}
