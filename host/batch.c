/* One step's requests: the host's part of validation, and the clamped view of device values that the host backends work from. */
#include "../kernels/requests.h"
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

void spindle__batch_request(const spindle_plan *plan, const spindle_positions *positions, const spindle_batch *b, int32_t r,
                            spindle__request *out) {
  const spindle_plan_options *o = &plan->options;
  spindle__bounds bounds = {o->max_q_rows, o->max_q_len, positions->capacity, o->max_kv_len};
  spindle__read_request(b, &bounds, r, out);
}
