/* spindle_batch_check: reads device arrays back and reports the first value that a prepare or run would clamp. */
#include "internal.h"

typedef struct checker {
  const spindle_plan *plan;
  spindle_batch batch;
  int64_t total_rows;
} checker;

static spindle_status fetch(const checker *c, void *out, const void *array, int64_t entry, size_t bytes) {
  spindle_context *context = c->plan->context;
  SPINDLE__TRY(context->backend->device->copy(context, out, (const char *)array + entry * (int64_t)bytes, bytes, NULL));
  return context->backend->device->stream_sync(context, NULL);
}

static spindle_status check_value(const char *array, int64_t entry, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return SPINDLE_OK;
  return spindle__fail(SPINDLE_LIMIT_EXCEEDED, "batch.%s[%lld] is %lld, must be in [%lld, %lld]", array, (long long)entry,
                       (long long)value, (long long)low, (long long)high);
}

/* Reads array[r] and checks it; an absent array leaves *value as it is. */
static spindle_status check_i32(const checker *c, const char *name, const int32_t *array, int64_t r, int64_t low, int64_t high,
                                int64_t *value) {
  int32_t read;
  if (!array) return SPINDLE_OK;
  SPINDLE__TRY(fetch(c, &read, array, r, sizeof read));
  *value = read;
  return check_value(name, r, read, low, high);
}

static spindle_status check_i64(const checker *c, const char *name, const int64_t *array, int64_t r, int64_t low, int64_t high,
                                int64_t *value) {
  if (!array) return SPINDLE_OK;
  SPINDLE__TRY(fetch(c, value, array, r, sizeof *value));
  return check_value(name, r, *value, low, high);
}

/* The table entries that hold kv_len keys: pages in the pool, spans in the page, indices ascending. */
static spindle_status check_pages(const checker *c, int64_t r, int64_t kv_len) {
  const spindle_batch *b = &c->batch;
  int64_t begin = r * b->table_stride, end = begin + b->table_stride, found = 0, next_index = 0;
  if (b->table_begin) {
    SPINDLE__TRY(check_i32(c, "table_begin", b->table_begin, r, 0, INT32_MAX, &begin));
    SPINDLE__TRY(check_i32(c, "table_begin", b->table_begin, r + 1, begin, INT32_MAX, &end));
  }
  for (int64_t e = begin; found < kv_len; e++) {
    int64_t page, first = 0, last = b->page_size, index = 0;
    uint32_t span;
    if (e == end)
      return spindle__fail(SPINDLE_LIMIT_EXCEEDED, "batch.kv_len[%lld] is %lld, but the request's table holds %lld keys",
                           (long long)r, (long long)kv_len, (long long)found);
    SPINDLE__TRY(check_i32(c, "pages", b->pages, e, 0, b->num_pages - 1, &page));
    if (b->page_span) {
      SPINDLE__TRY(fetch(c, &span, b->page_span, e, sizeof span));
      last = span >> 16;
      first = span & 0xffff;
      SPINDLE__TRY(check_value("page_span (end)", e, last, 0, b->page_size));
      SPINDLE__TRY(check_value("page_span (first)", e, first, 0, last));
    }
    if (b->page_index) {
      SPINDLE__TRY(check_i64(c, "page_index", b->page_index, e, next_index - first, SPINDLE__MAX_INDEX - last, &index));
      next_index = index + last;
    }
    found += last - first;
  }
  return SPINDLE_OK;
}

static spindle_status check_request(checker *c, const spindle_positions *positions, int64_t r) {
  const spindle_batch *b = &c->batch;
  const spindle_plan_options *o = &c->plan->options;
  int64_t q_begin = 0, q_len = 0, kv_len = 0, kv_begin = 0, unused;
  SPINDLE__TRY(check_i32(c, "q_len", b->q_len, r, 0, o->max_q_len, &q_len));
  if (q_len == 0) return SPINDLE_OK;
  c->total_rows += q_len;
  SPINDLE__TRY(check_value("q_len (sum up to here)", r, c->total_rows, 0, o->max_q_rows));
  SPINDLE__TRY(check_i32(c, "q_begin", b->q_begin, r, 0, o->max_q_rows - q_len, &q_begin));
  SPINDLE__TRY(check_i32(c, "kv_len", b->kv_len, r, 0, o->max_kv_len, &kv_len));
  SPINDLE__TRY(check_i32(c, "position", b->position, r, 0, positions->capacity - 1, &unused));
  SPINDLE__TRY(check_i64(c, "q_index", b->q_index, r, 0, SPINDLE__MAX_INDEX - q_len, &unused));
  SPINDLE__TRY(check_i64(c, "n", b->n, r, 1, SPINDLE__MAX_INDEX, &unused));
  SPINDLE__TRY(check_i64(c, "kv_index", b->kv_index, r, 0, SPINDLE__MAX_INDEX - kv_len, &unused));
  SPINDLE__TRY(check_i32(c, "kv_begin", b->kv_begin, r, 0, b->dense_rows, &kv_begin));
  SPINDLE__TRY(check_i32(c, "kv_batch", b->kv_batch, r, 0, b->num_pages - 1, &unused));
  if (b->page_size) return check_pages(c, r, kv_len);
  return check_value("kv_len (after kv_begin)", r, kv_begin + kv_len, 0, b->dense_rows);
}

spindle_status spindle_batch_check(const spindle_plan *plan, const spindle_positions *positions, const spindle_batch *batch,
                                   spindle_stream stream) {
  checker c = {.plan = plan};
  if (!plan) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "plan is NULL");
  if (!positions) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "positions is NULL");
  SPINDLE__TRY(spindle__check_stream(plan->context, stream));
  SPINDLE__TRY(spindle__check_batch(plan, batch, &c.batch));
  SPINDLE__TRY(plan->context->backend->device->stream_sync(plan->context, stream));
  for (int32_t r = 0; r < c.batch.max_requests; r++) SPINDLE__TRY(check_request(&c, positions, r));
  return SPINDLE_OK;
}
