/* The keys of a request as runs of consecutive rows with consecutive indices. */
#include "../kernels/requests.h"
#include "internal.h"

spindle__key_cursor spindle__keys_in(const spindle_batch *batch, const spindle__request *request, int64_t j0, int64_t j1) {
  spindle__key_cursor cursor = {batch, request, j0, j1, 0};
  int64_t end;
  spindle__slots_in(batch, request, j0, j1, &cursor.next, &end);
  return cursor;
}

bool spindle__keys_next(spindle__key_cursor *c, spindle__key_run *run) {
  const spindle_batch *b = c->batch;
  const spindle__request *r = c->request;
  while (c->next < spindle__num_slots(b, r)) {
    int64_t u = c->next, end = r->kv_len, base = 0;
    if (b->page_size) {
      int64_t e = u / b->page_size;
      int32_t first, last;
      base = e * b->page_size;
      spindle__entry_span(b, r, e, &first, &last);
      end = base + last;
      u = spindle__max(u, base + first);
      if (u >= end) {
        c->next = base + b->page_size;
        continue;
      }
    }
    if (b->shard_count > 1) end = spindle__min(end, (u / b->shard_size + 1) * b->shard_size);
    spindle__key key = spindle__key_at(b, r, u);
    if (key.index >= c->j1) return false;
    if (key.index < c->j0) { /* the run starts before the range */
      c->next = u + spindle__min(c->j0 - key.index, end - u);
      continue;
    }
    run->index = key.index;
    run->count = (int32_t)spindle__min(end - u, c->j1 - key.index);
    run->page = key.page;
    run->row = key.row;
    c->next = u + run->count;
    return true;
  }
  return false;
}
