/* One step's requests: the host's part of validation, and the clamped view of device values that the host backends work from. */
#include "internal.h"

static spindle_status check_absent(const char *field, const void *array, const char *why) {
  return array ? spindle__fail(SPINDLE_INVALID_ARGUMENT, "batch.%s is given, but %s", field, why) : SPINDLE_OK;
}

static spindle_status check_arrays(const spindle_batch *b) {
  bool paged = b->page_size > 0, explicit_index = (paged && b->page_index) || b->shard_count > 1;
  SPINDLE__TRY(spindle__check_array("batch.q_begin", b->q_begin, 4, true));
  SPINDLE__TRY(spindle__check_array("batch.q_len", b->q_len, 4, true));
  SPINDLE__TRY(spindle__check_array("batch.kv_len", b->kv_len, 4, true));
  SPINDLE__TRY(spindle__check_array("batch.q_index", b->q_index, 8, explicit_index));
  SPINDLE__TRY(spindle__check_array("batch.n", b->n, 8, false));
  SPINDLE__TRY(spindle__check_array("batch.position", b->position, 4, false));
  SPINDLE__TRY(spindle__check_array("batch.kv_index", b->kv_index, 8, false));
  SPINDLE__TRY(spindle__check_array("batch.kv_begin", b->kv_begin, 4, false));
  SPINDLE__TRY(spindle__check_array("batch.kv_batch", b->kv_batch, 4, false));
  SPINDLE__TRY(spindle__check_array("batch.pages", b->pages, 4, paged));
  SPINDLE__TRY(spindle__check_array("batch.table_begin", b->table_begin, 4, false));
  SPINDLE__TRY(spindle__check_array("batch.page_index", b->page_index, 8, false));
  SPINDLE__TRY(spindle__check_array("batch.page_span", b->page_span, 4, false));
  if (paged) {
    SPINDLE__TRY(check_absent("kv_begin", b->kv_begin, "keys are paged"));
    SPINDLE__TRY(check_absent("kv_batch", b->kv_batch, "keys are paged"));
    if (b->page_index) SPINDLE__TRY(check_absent("kv_index", b->kv_index, "page_index says the indices"));
    return SPINDLE_OK;
  }
  SPINDLE__TRY(check_absent("pages", b->pages, "keys are dense (page_size 0)"));
  SPINDLE__TRY(check_absent("table_begin", b->table_begin, "keys are dense (page_size 0)"));
  SPINDLE__TRY(check_absent("page_index", b->page_index, "keys are dense (page_size 0)"));
  return check_absent("page_span", b->page_span, "keys are dense (page_size 0)");
}

spindle_status spindle__check_batch(const spindle_plan *plan, const spindle_batch *in, spindle_batch *out) {
  spindle_batch b;
  SPINDLE__TRY(spindle__read_descriptor(&b, sizeof b, in, "batch"));
  if (!b.num_pages && !b.page_size) b.num_pages = b.max_requests;
  if (!b.dense_rows && !b.page_size) b.dense_rows = (int32_t)plan->options.max_kv_len;
  if (!b.shard_count) b.shard_count = 1;
  if (!b.shard_size) b.shard_size = 1;
  SPINDLE__TRY(spindle__check_integer("batch.max_requests", b.max_requests, 1, plan->options.max_requests));
  SPINDLE__TRY(spindle__check_integer("batch.page_size", b.page_size, plan->options.page_size, plan->options.page_size));
  SPINDLE__TRY(spindle__check_integer("batch.num_pages", b.num_pages, 1, INT32_MAX));
  SPINDLE__TRY(spindle__check_integer("batch.dense_rows", b.dense_rows, b.page_size ? 0 : 1, b.page_size ? 0 : INT32_MAX));
  SPINDLE__TRY(spindle__check_integer("batch.shard_count", b.shard_count, 1, 65536));
  SPINDLE__TRY(spindle__check_integer("batch.shard_size", b.shard_size, 1, INT32_MAX));
  SPINDLE__TRY(spindle__check_integer("batch.shard_rank", b.shard_rank, 0, b.shard_count - 1));
  SPINDLE__TRY(spindle__check_integer("batch.reserved", b.reserved, 0, 0));
  SPINDLE__TRY(
      spindle__check_integer("batch.table_stride", b.table_stride, b.page_size && !b.table_begin ? 1 : 0, (int64_t)1 << 40));
  if (b.shard_count > 1) SPINDLE__TRY(check_absent("page_index", b.page_index, "shard_count is greater than 1"));
  SPINDLE__TRY(check_arrays(&b));
  *out = b;
  return SPINDLE_OK;
}

/* ---- Clamped view ---- */

static int64_t clamp(int64_t x, int64_t low, int64_t high) { return spindle__max(low, spindle__min(x, high)); }

/* Table entries up to the one that holds the last of kv_len keys. The table may hold fewer: then so does the request. */
static void clamp_pages(const spindle_batch *b, int32_t r, spindle__request *q) {
  int64_t entries = b->table_stride, found = 0;
  q->first_entry = (int64_t)r * b->table_stride;
  if (b->table_begin) {
    q->first_entry = spindle__max(b->table_begin[r], 0);
    entries = spindle__max(b->table_begin[r + 1] - q->first_entry, 0);
  }
  q->num_entries = 0;
  for (int64_t e = 0; e < entries && found < q->kv_len; e++) {
    int64_t first = 0, end = b->page_size;
    if (b->page_span) {
      first = b->page_span[q->first_entry + e] & 0xffff;
      end = spindle__min(b->page_span[q->first_entry + e] >> 16, b->page_size);
    }
    end = spindle__min(end, first + q->kv_len - found);
    found += spindle__max(end - first, 0);
    q->num_entries = (int32_t)e + 1;
    q->last_end = (int32_t)end;
  }
  q->kv_len = (int32_t)found;
}

static void find_key_range(const spindle_batch *b, spindle__request *q) {
  spindle__key_cursor cursor = spindle__keys_in(b, q, 0, SPINDLE__MAX_INDEX);
  spindle__key_run run;
  q->key_lo = q->key_hi = 0;
  if (!q->kv_len || !spindle__keys_next(&cursor, &run)) return;
  q->key_lo = run.index;
  q->key_hi = clamp(spindle__last_key_index(b, q) + 1, q->key_lo, SPINDLE__MAX_INDEX);
}

void spindle__batch_request(const spindle_plan *plan, const spindle_positions *positions, const spindle_batch *b, int32_t r,
                            spindle__request *out) {
  const spindle_plan_options *o = &plan->options;
  spindle__request q = {0};
  q.q_begin = (int32_t)clamp(b->q_begin[r], 0, o->max_q_rows);
  q.q_len = (int32_t)clamp(b->q_len[r], 0, spindle__min(o->max_q_len, o->max_q_rows - q.q_begin));
  q.kv_len = (int32_t)clamp(b->kv_len[r], 0, o->max_kv_len);
  q.slot = b->position ? (int32_t)clamp(b->position[r], 0, positions->capacity - 1) : 0;
  q.kv_index = b->kv_index ? clamp(b->kv_index[r], 0, SPINDLE__MAX_INDEX - 1) : 0;
  if (b->page_size) {
    clamp_pages(b, r, &q);
  } else {
    q.kv_begin = b->kv_begin ? (int32_t)clamp(b->kv_begin[r], 0, b->dense_rows) : 0;
    q.kv_batch = (int32_t)clamp(b->kv_batch ? b->kv_batch[r] : r, 0, b->num_pages - 1);
    q.kv_len = (int32_t)spindle__min(q.kv_len, b->dense_rows - q.kv_begin);
  }
  int64_t q_index = b->q_index ? b->q_index[r] : q.kv_index + q.kv_len - q.q_len;
  q.q_index = clamp(q_index, -SPINDLE__MAX_INDEX, SPINDLE__MAX_INDEX - q.q_len);
  q.n = clamp(b->n ? b->n[r] : q.q_index + q.q_len, 1, SPINDLE__MAX_INDEX);
  find_key_range(b, &q);
  *out = q;
}
