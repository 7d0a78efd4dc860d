/* The reference backend's walk over keys: where each lies and which index it has, against batches written out by hand. */
#include <criterion/criterion.h>

#include "host/reference/reference.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))

static void expect_keys(const spindle_batch *batch, const spindle__request *request, int32_t r, const spindle__ref_key *expected,
                        size_t count) {
  spindle__ref_keys keys = spindle__ref_keys_of(batch, request, r);
  spindle__ref_key key;
  size_t k = 0;
  for (; spindle__ref_next_key(&keys, &key); k++) {
    cr_assert(k < count, "more than %zu keys", count);
    cr_expect(key.index == expected[k].index && key.page == expected[k].page && key.row == expected[k].row,
              "key %zu: index %lld at (%lld, %lld), expected %lld at (%lld, %lld)", k, (long long)key.index, (long long)key.page,
              (long long)key.row, (long long)expected[k].index, (long long)expected[k].page, (long long)expected[k].row);
  }
  cr_expect_eq(k, count);
}

#define EXPECT_KEYS(batch, request, r, ...)                            \
  do {                                                                 \
    const spindle__ref_key expected[] = {__VA_ARGS__};                 \
    expect_keys(&(batch), &(request), (r), expected, COUNT(expected)); \
  } while (0)

/* Left padding and an evicted start: catches kv_begin added to the index. */
Test(reference_keys, dense) {
  spindle_batch batch = {.num_pages = 2, .dense_rows = 8};
  spindle__request request = {.kv_len = 3, .kv_begin = 2, .kv_batch = 1, .kv_index = 100};
  EXPECT_KEYS(batch, request, 0, {100, 1, 2}, {101, 1, 3}, {102, 1, 4});
}

/* Rank 1 of 3 with runs of 2: catches ranks and runs exchanged. */
Test(reference_keys, shards) {
  spindle_batch batch = {.num_pages = 1, .dense_rows = 8, .shard_size = 2, .shard_count = 3, .shard_rank = 1};
  spindle__request request = {.kv_len = 5, .kv_index = 1000};
  EXPECT_KEYS(batch, request, 0, {1002, 0, 0}, {1003, 0, 1}, {1008, 0, 2}, {1009, 0, 3}, {1014, 0, 4});
}

/* Both kinds of table; the last page is partly filled, and a page out of the pool is clamped into it. */
Test(reference_keys, pages) {
  const int32_t table[] = {9, 4, 0, 7, 2, -5, 99, 3}, begin[] = {0, 3, 8};
  spindle_batch batch = {.page_size = 2, .num_pages = 10, .pages = table, .table_begin = begin};
  spindle__request request = {.kv_len = 7, .kv_index = 10};
  EXPECT_KEYS(batch, request, 1, {10, 7, 0}, {11, 7, 1}, {12, 2, 0}, {13, 2, 1}, {14, 0, 0}, {15, 0, 1}, {16, 9, 0});
  batch.table_begin = NULL;
  batch.table_stride = 4;
  request = (spindle__request){.kv_len = 3};
  EXPECT_KEYS(batch, request, 1, {0, 2, 0}, {1, 2, 1}, {2, 0, 0});
}

/* A table that ends before kv_len keys: catches a read past it. */
Test(reference_keys, short_table) {
  const int32_t table[] = {3, 1, 5}, begin[] = {0, 2, 3};
  spindle_batch batch = {.page_size = 2, .num_pages = 10, .pages = table, .table_begin = begin};
  spindle__request request = {.kv_len = 100};
  EXPECT_KEYS(batch, request, 0, {0, 3, 0}, {1, 3, 1}, {2, 1, 0}, {3, 1, 1});
}

/* Context shift and reuse by table edits: spans may be empty, an index may be negative where its slot is not valid, and kv_len
 * counts valid slots only. Catches kv_len counted in slots. */
Test(reference_keys, spans_and_indices) {
  const int32_t table[] = {5, 6, 7, 8};
  const int64_t index[] = {-2, 30, 2, 50};
  const uint32_t span[] = {2 | 4u << 16, 3 | 3u << 16, 0 | 3u << 16, 1 | 9u << 16};
  spindle_batch batch = {
      .page_size = 4, .num_pages = 10, .pages = table, .table_stride = 4, .page_index = index, .page_span = span};
  spindle__request request = {.kv_len = 7};
  EXPECT_KEYS(batch, request, 0, {0, 5, 2}, {1, 5, 3}, {2, 7, 0}, {3, 7, 1}, {4, 7, 2}, {51, 8, 1}, {52, 8, 2});
  batch.page_index = NULL; /* entry e starts at e * page_size + kv_index */
  request.kv_len = 3;
  request.kv_index = 100;
  EXPECT_KEYS(batch, request, 0, {102, 5, 2}, {103, 5, 3}, {108, 7, 0});
}
