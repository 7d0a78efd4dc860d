/* Where the keys of a request lie: dense rows or table entries, as runs of consecutive rows with consecutive indices.
 *
 * A slot number u counts storage: key rows (dense), or entry * page_size + offset (paged). Indices ascend with u, so both ends of
 * a range of indices are found by search. */
#include "internal.h"

static const int32_t *entry_pages(const spindle_batch *b, const spindle__request *r) { return b->pages + r->first_entry; }

/* Index of slot number u, where no page_index says it: this shard's key number u of the whole text. */
static int64_t sharded_index(const spindle_batch *b, const spindle__request *r, int64_t u) {
  return (u / b->shard_size * b->shard_count + b->shard_rank) * b->shard_size + u % b->shard_size + r->kv_index;
}

static int64_t index_of(const spindle_batch *b, const spindle__request *r, int64_t u) {
  if (b->page_index) {
    int64_t index = b->page_index[r->first_entry + u / b->page_size]; /* clamped: what a table holds must not overflow */
    return spindle__max(-SPINDLE__MAX_INDEX, spindle__min(index, SPINDLE__MAX_INDEX)) + u % b->page_size;
  }
  return sharded_index(b, r, u);
}

/* Valid slots of table entry e: [first, end). */
static void entry_span(const spindle_batch *b, const spindle__request *r, int64_t e, int64_t *first, int64_t *end) {
  *first = 0;
  *end = b->page_size;
  if (b->page_span) {
    uint32_t span = b->page_span[r->first_entry + e];
    *first = spindle__min(span & 0xffff, b->page_size);
    *end = spindle__min(span >> 16, b->page_size);
  }
  if (e == r->num_entries - 1) *end = spindle__min(*end, r->last_end);
}

static int64_t num_slots(const spindle_batch *b, const spindle__request *r) {
  return b->page_size ? (int64_t)r->num_entries * b->page_size : r->kv_len;
}

/* The last valid index of entry e, or one less than its first where the entry is empty: ascends with e. */
static int64_t entry_last_index(const spindle_batch *b, const spindle__request *r, int64_t e) {
  int64_t first, end;
  entry_span(b, r, e, &first, &end);
  return index_of(b, r, e * b->page_size + spindle__min(spindle__max(end - 1, first), b->page_size - 1));
}

/* The first slot number whose index is >= j, by bisection; inside the entry it may still be invalid. */
static int64_t seek(const spindle_batch *b, const spindle__request *r, int64_t j) {
  int64_t low = 0, high = num_slots(b, r);
  if (b->page_index) { /* indices of invalid slots need not ascend: search entries by what they hold */
    int64_t e_low = 0, e_high = r->num_entries;
    while (e_low < e_high) {
      int64_t e = e_low + (e_high - e_low) / 2;
      if (entry_last_index(b, r, e) < j)
        e_low = e + 1;
      else
        e_high = e;
    }
    return e_low * b->page_size;
  }
  while (low < high) {
    int64_t u = low + (high - low) / 2;
    if (index_of(b, r, u) < j)
      low = u + 1;
    else
      high = u;
  }
  return low;
}

int64_t spindle__last_key_index(const spindle_batch *batch, const spindle__request *request) {
  if (batch->page_size) return entry_last_index(batch, request, request->num_entries - 1);
  return index_of(batch, request, request->kv_len - 1);
}

spindle__key_cursor spindle__keys_in(const spindle_batch *batch, const spindle__request *request, int64_t j0, int64_t j1) {
  spindle__key_cursor cursor = {batch, request, j0, j1, seek(batch, request, j0)};
  return cursor;
}

bool spindle__keys_next(spindle__key_cursor *c, spindle__key_run *run) {
  const spindle_batch *b = c->batch;
  const spindle__request *r = c->request;
  while (c->next < num_slots(b, r)) {
    int64_t u = c->next, end = r->kv_len, base = 0;
    if (b->page_size) {
      int64_t e = u / b->page_size, first;
      base = e * b->page_size;
      entry_span(b, r, e, &first, &end);
      end += base;
      u = spindle__max(u, base + first);
      if (u >= end) {
        c->next = base + b->page_size;
        continue;
      }
    }
    if (b->shard_count > 1) end = spindle__min(end, (u / b->shard_size + 1) * b->shard_size);
    int64_t index = index_of(b, r, u);
    if (index >= c->j1) return false;
    if (index < c->j0) { /* the run starts before the range */
      int64_t skip = spindle__min(c->j0 - index, end - u);
      c->next = u + skip;
      continue;
    }
    run->index = index;
    run->count = (int32_t)spindle__min(end - u, c->j1 - index);
    run->page = b->page_size ? (int32_t)spindle__min(spindle__max(entry_pages(b, r)[u / b->page_size], 0), b->num_pages - 1)
                             : r->kv_batch;
    run->row = (int32_t)(b->page_size ? u - base : r->kv_begin + u);
    c->next = u + run->count;
    return true;
  }
  return false;
}
