/* A batch as it is read: requests clamped to bounds, and where their keys lie.
 *
 * A slot number u counts storage: key rows (dense), or entry * page_size + offset (paged). Indices ascend with the slots that
 * hold keys. Nothing that the batch's arrays hold is trusted, except the extent of the page table itself.
 *
 * Pure integers, no allocation: host and device run the same code. */
#ifndef SPINDLE_KERNELS_REQUESTS_H
#define SPINDLE_KERNELS_REQUESTS_H

#include "params.h"

/* Of the plan, and of the position table. */
typedef struct spindle__bounds {
  int32_t max_q_rows, max_q_len, capacity;
  int64_t max_kv_len;
} spindle__bounds;

/* What a slot holds. page and row are inside the pool even where it holds no key. */
typedef struct spindle__key {
  int64_t index;
  int32_t page; /* dense: batch row */
  int32_t row;  /* in the page; dense: in the batch row */
  int32_t run;  /* slots from this one on, in its page, that hold keys; 0: it holds none */
} spindle__key;

SPINDLE__SHARED int64_t spindle__clamp(int64_t x, int64_t low, int64_t high) { return spindle__max(low, spindle__min(x, high)); }

/* ---- Table entries ---- */

/* Valid slots of table entry e: [first, end), perhaps none. */
SPINDLE__SHARED void spindle__entry_span(const spindle_batch *b, const spindle__request *r, int64_t e, int32_t *first,
                                         int32_t *end) {
  *first = 0;
  *end = b->page_size;
  if (b->page_span) {
    uint32_t span = b->page_span[r->first_entry + e];
    *first = (int32_t)spindle__min(span & 0xffff, b->page_size);
    *end = (int32_t)spindle__min(span >> 16, b->page_size);
  }
  if (e == r->num_entries - 1 && r->last_end < *end) *end = r->last_end;
}

/* Index of slot 0 of entry e, clamped: what a table holds must not overflow. */
SPINDLE__SHARED int64_t spindle__entry_index(const spindle_batch *b, const spindle__request *r, int64_t e) {
  return spindle__clamp(b->page_index[r->first_entry + e], -SPINDLE__MAX_INDEX, SPINDLE__MAX_INDEX);
}

/* The first entry from e on that holds a key; `high` if none before it does. */
SPINDLE__SHARED int64_t spindle__next_entry(const spindle_batch *b, const spindle__request *r, int64_t e, int64_t high) {
  for (; b->page_span && e < high; e++) {
    int32_t first, end;
    spindle__entry_span(b, r, e, &first, &end);
    if (first < end) break;
  }
  return e;
}

/* The first entry that holds a key of index >= j, by bisection; num_entries if none does. With page_index only. Entries that hold
 * no key say nothing about the order: whatever their page_index is, they are passed over. */
SPINDLE__SHARED_CALLED int64_t spindle__find_entry(const spindle_batch *b, const spindle__request *r, int64_t j) {
  int64_t low = 0, high = r->num_entries;
  while (low < high) {
    int64_t middle = low + (high - low) / 2, e = spindle__next_entry(b, r, middle, high);
    int32_t first, end;
    if (e < high) spindle__entry_span(b, r, e, &first, &end);
    if (e < high && spindle__entry_index(b, r, e) + end - 1 < j)
      low = e + 1;
    else
      high = middle;
  }
  return spindle__next_entry(b, r, low, r->num_entries);
}

/* ---- Slots ---- */

/* Slots that a request extends over, those without a key among them. */
SPINDLE__SHARED int64_t spindle__num_slots(const spindle_batch *b, const spindle__request *r) {
  return b->page_size ? (int64_t)r->num_entries * b->page_size : r->kv_len;
}

/* Past the last slot that holds a key. */
SPINDLE__SHARED int64_t spindle__end_slot(const spindle_batch *b, const spindle__request *r) {
  if (!b->page_size || !r->num_entries) return spindle__num_slots(b, r);
  return (int64_t)(r->num_entries - 1) * b->page_size + r->last_end;
}

/* Index of slot u >= 0 where no page_index says it: this shard's key number u of the whole text. */
SPINDLE__SHARED int64_t spindle__sharded_index(const spindle_batch *b, const spindle__request *r, int64_t u) {
  if (b->shard_count == 1) return u + r->kv_index;
  int64_t rest, block = spindle__divide(u, b->shard_size, &rest);
  return (block * b->shard_count + b->shard_rank) * b->shard_size + rest + r->kv_index;
}

/* Index of slot u of the request. */
SPINDLE__SHARED int64_t spindle__slot_index(const spindle_batch *b, const spindle__request *r, int64_t u) {
  if (!b->page_index) return spindle__sharded_index(b, r, u);
  int64_t offset, e = spindle__divide(u, b->page_size, &offset);
  return spindle__entry_index(b, r, e) + offset;
}

/* The first slot with an index >= j, in closed form, or the number of slots. Without page_index only. */
SPINDLE__SHARED int64_t spindle__find_sharded(const spindle_batch *b, const spindle__request *r, int64_t j) {
  int64_t x = spindle__max(j - r->kv_index, 0), u = x;
  if (b->shard_count > 1) { /* x lies in block `number` of the text, which belongs to rank `owner` */
    int64_t rest, owner, number = spindle__divide(x, b->shard_size, &rest),
                         round = spindle__divide(number, b->shard_count, &owner);
    u = round * b->shard_size;
    if (owner == b->shard_rank) u += rest;
    if (owner > b->shard_rank) u += b->shard_size;
  }
  return spindle__min(u, spindle__num_slots(b, r));
}

/* What slot u holds; any u. */
SPINDLE__SHARED spindle__key spindle__key_at(const spindle_batch *b, const spindle__request *r, int64_t u) {
  int64_t slots = spindle__num_slots(b, r), in = spindle__clamp(u, 0, slots - 1);
  spindle__key key = {0, 0, 0, 0};
  if (!slots) return key; /* perhaps there is no table to look into */
  if (!b->page_size) {
    key.page = r->kv_batch;
    key.row = (int32_t)(r->kv_begin + in);
    key.index = spindle__sharded_index(b, r, in);
    key.run = u == in ? (int32_t)(slots - u) : 0;
    return key;
  }
  int32_t first, end;
  int64_t row, e = spindle__divide(in, b->page_size, &row);
  key.row = (int32_t)row;
  spindle__entry_span(b, r, e, &first, &end);
  key.page = (int32_t)spindle__clamp(b->pages[r->first_entry + e], 0, b->num_pages - 1);
  key.index = b->page_index ? spindle__entry_index(b, r, e) + key.row : spindle__sharded_index(b, r, in);
  key.run = u == in && first <= key.row && key.row < end ? end - key.row : 0;
  return key;
}

/* Slots [u0, u1) that hold all keys with indices in [j0, j1): those slots and no others, or, with page_index, the whole table
 * entries that such keys lie in (and those between). */
SPINDLE__SHARED void spindle__slots_in(const spindle_batch *b, const spindle__request *r, int64_t j0, int64_t j1, int64_t *u0,
                                       int64_t *u1) {
  int64_t end = spindle__end_slot(b, r);
  if (b->page_index) {
    int64_t e = spindle__find_entry(b, r, j1), first = spindle__find_entry(b, r, j0);
    int32_t begin, unused;
    if (e < r->num_entries) { /* its last key is beyond the range: is its first one? */
      spindle__entry_span(b, r, e, &begin, &unused);
      e += spindle__entry_index(b, r, e) + begin < j1;
    }
    *u0 = first * b->page_size;
    *u1 = e * b->page_size;
  } else {
    *u0 = spindle__find_sharded(b, r, j0);
    *u1 = spindle__find_sharded(b, r, j1);
  }
  *u1 = spindle__min(*u1, end);
  *u0 = spindle__min(*u0, *u1);
}

/* ---- Requests ---- */

/* Entries up to the one that holds the last of kv_len keys, by their spans. */
SPINDLE__SHARED void spindle__read_spans(const spindle_batch *b, int64_t entries, spindle__request *r) {
  int64_t found = 0;
  for (int64_t e = 0; e < entries && found < r->kv_len; e++) {
    uint32_t span = b->page_span[r->first_entry + e];
    int64_t first = span & 0xffff, end = spindle__min(span >> 16, b->page_size);
    end = spindle__min(end, first + r->kv_len - found);
    if (first >= end) continue;
    found += end - first;
    r->num_entries = (int32_t)e + 1;
    r->last_end = (int32_t)end;
  }
  r->kv_len = (int32_t)found;
}

/* Entries of the kv_len keys. The table may hold fewer: then so does the request. The last entry holds a key, if any does. */
SPINDLE__SHARED void spindle__read_table(const spindle_batch *b, int32_t number, spindle__request *r) {
  int64_t entries = b->table_stride;
  r->first_entry = (int64_t)number * b->table_stride;
  if (b->table_begin) {
    r->first_entry = spindle__max(b->table_begin[number], 0);
    entries = spindle__max(b->table_begin[number + 1] - r->first_entry, 0);
  }
  if (b->page_span) {
    spindle__read_spans(b, entries, r);
    return;
  }
  r->kv_len = (int32_t)spindle__min(r->kv_len, entries * b->page_size);
  if (!r->kv_len) return;
  r->num_entries = (r->kv_len - 1) / b->page_size + 1;
  r->last_end = (int32_t)(r->kv_len - (int64_t)(r->num_entries - 1) * b->page_size);
}

/* At least the index of the last key (kv_len > 0), or a value out of range that a table holds. */
SPINDLE__SHARED int64_t spindle__last_index(const spindle_batch *b, const spindle__request *r) {
  return spindle__slot_index(b, r, spindle__end_slot(b, r) - 1);
}

/* The first key with a valid index, and past the last key. */
SPINDLE__SHARED void spindle__read_key_range(const spindle_batch *b, spindle__request *r) {
  int32_t first = 0, end;
  r->key_lo = r->key_hi = 0;
  if (!r->kv_len) return;
  if (b->page_size) {
    int64_t e = b->page_index ? spindle__find_entry(b, r, 0) : spindle__next_entry(b, r, 0, r->num_entries);
    if (e == r->num_entries) return;
    spindle__entry_span(b, r, e, &first, &end);
    r->key_lo = spindle__max(spindle__slot_index(b, r, e * b->page_size + first), 0);
  } else {
    r->key_lo = spindle__sharded_index(b, r, 0);
  }
  r->key_hi = spindle__clamp(spindle__last_index(b, r) + 1, r->key_lo, SPINDLE__MAX_INDEX);
  if (r->key_lo >= SPINDLE__MAX_INDEX) r->key_lo = r->key_hi = 0;
}

/* Entry `number` of the batch, clamped to the bounds and to the pool's extent, defaults filled in. */
SPINDLE__SHARED void spindle__read_request(const spindle_batch *b, const spindle__bounds *bounds, int32_t number,
                                           spindle__request *out) {
  const spindle__bounds *o = bounds;
  spindle__request r;
  r.q_begin = (int32_t)spindle__clamp(b->q_begin[number], 0, o->max_q_rows);
  r.q_len = (int32_t)spindle__clamp(b->q_len[number], 0, spindle__min(o->max_q_len, o->max_q_rows - r.q_begin));
  r.kv_len = (int32_t)spindle__clamp(b->kv_len[number], 0, o->max_kv_len);
  r.slot = b->position ? (int32_t)spindle__clamp(b->position[number], 0, o->capacity - 1) : 0;
  r.kv_index = b->kv_index ? spindle__clamp(b->kv_index[number], 0, SPINDLE__MAX_INDEX - 1) : 0;
  r.kv_begin = r.kv_batch = r.num_entries = r.last_end = 0;
  r.first_entry = 0;
  if (b->page_size) {
    spindle__read_table(b, number, &r);
  } else {
    r.kv_begin = b->kv_begin ? (int32_t)spindle__clamp(b->kv_begin[number], 0, b->dense_rows) : 0;
    r.kv_batch = (int32_t)spindle__clamp(b->kv_batch ? b->kv_batch[number] : number, 0, b->num_pages - 1);
    r.kv_len = (int32_t)spindle__min(r.kv_len, b->dense_rows - r.kv_begin);
  }
  int64_t q_index = b->q_index ? b->q_index[number] : r.kv_index + r.kv_len - r.q_len;
  r.q_index = spindle__clamp(q_index, -SPINDLE__MAX_INDEX, SPINDLE__MAX_INDEX - r.q_len);
  r.n = spindle__clamp(b->n ? b->n[number] : r.q_index + r.q_len, 1, SPINDLE__MAX_INDEX);
  spindle__read_key_range(b, &r);
  *out = r;
}

#endif
