/* Key tiles: up to SPINDLE__CPU_TILE_KEYS keys of ascending indices, wherever their rows lie; which of them a row sees; their
 * bias. */
#include <string.h>

#include "cpu.h"

spindle__cpu_key_reader spindle__cpu_read_keys(const spindle__cpu_task *t, int64_t j0, int64_t j1) {
  const spindle__cpu_run *run = t->run;
  spindle__cpu_key_reader reader = {.k = &run->args->k, .v = &run->args->v};
  reader.cursor = spindle__keys_in(&run->plan->batch, &t->r->request, j0, j1);
  reader.span = run->plan->shape.bias ? SPINDLE__CPU_BIAS_SPAN : INT64_MAX;
  return reader;
}

/* Takes up to `count` keys of the current run. */
static void take(spindle__cpu_key_reader *reader, int32_t count, spindle__cpu_keys *keys) {
  spindle__key_run *run = &reader->run;
  int64_t k = run->page * reader->k->page + run->row * reader->k->row,
          v = run->page * reader->v->page + run->row * reader->v->row;
  for (int32_t x = 0; x < count; x++) {
    keys->index[keys->count + x] = run->index + x;
    keys->k_offset[keys->count + x] = k + x * reader->k->row;
    keys->v_offset[keys->count + x] = v + x * reader->v->row;
  }
  keys->count += count;
  run->index += count;
  run->row += count;
  run->count -= count;
}

bool spindle__cpu_next_tile(spindle__cpu_key_reader *reader, spindle__cpu_keys *keys) {
  keys->count = 0;
  keys->contiguous = 1;
  while (keys->count < SPINDLE__CPU_TILE_KEYS) {
    if (!reader->run.count && !spindle__keys_next(&reader->cursor, &reader->run)) break;
    int64_t room = SPINDLE__CPU_TILE_KEYS - keys->count;
    if (keys->count) {
      int64_t after = reader->run.index - keys->index[keys->count - 1];
      if (after < 1) break; /* a table whose indices do not ascend: columns of a tile must */
      if (after > 1) keys->contiguous = 0;
      room = spindle__min(room, reader->span - (reader->run.index - keys->index[0]));
      if (room <= 0) break;
    }
    take(reader, (int32_t)spindle__min(room, reader->run.count), keys);
  }
  for (int32_t x = 0; reader->span < INT64_MAX && x < SPINDLE__CPU_TILE_KEYS; x++)
    keys->column[x] = x < keys->count ? (int32_t)(keys->index[x] - keys->index[0]) : 0;
  return keys->count > 0;
}

/* The first column whose index is >= j. */
static int32_t column_of(const spindle__cpu_keys *keys, int64_t j) {
  int32_t low = 0, high = keys->count;
  if (keys->contiguous) return (int32_t)spindle__max(0, spindle__min(j - keys->index[0], high));
  while (low < high) {
    int32_t middle = (low + high) / 2;
    if (keys->index[middle] < j)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

bool spindle__cpu_visible(spindle__cpu_task *t, const spindle__segment *segment) {
  const spindle__cpu_keys *keys = &t->keys;
  bool any = false;
  memset(t->lo, 0, (size_t)t->item.rows * sizeof *t->lo);
  memset(t->hi, 0, (size_t)t->item.rows * sizeof *t->hi);
  for (int32_t g = 0; g < segment->num_groups; g++) {
    const spindle__row_group *group = &segment->group[g];
    int64_t first = keys->index[0], last = keys->index[keys->count - 1];
    bool full = group->i0 - last >= group->dmin && group->i1 - 1 - first <= group->dmax;
    for (int64_t i = group->i0; i < group->i1; i++) {
      int32_t lo = full ? 0 : column_of(keys, i - group->dmax), hi = full ? keys->count : column_of(keys, i - group->dmin + 1);
      t->lo[i - t->i0] = lo;
      t->hi[i - t->i0] = hi;
      any |= lo < hi;
    }
  }
  return any;
}

void spindle__cpu_fill_bias(spindle__cpu_task *t, const spindle__cpu_unit *u) {
  const spindle__cpu_run *run = t->run;
  const spindle__cpu_keys *keys = &t->keys;
  int64_t first = t->i1 - 1 - keys->index[0];
  int32_t span = (int32_t)(keys->index[keys->count - 1] - keys->index[0]) + 1;
  for (int32_t x = 0; x < u->heads; x++) {
    float a = run->args->bias_a[u->h0 + x], p = run->args->bias_p ? run->args->bias_p[u->h0 + x] : 0;
    run->kernels->bias(run->plan->shape.bias, a, p, first, t->item.rows - 1 + span,
                       t->bias + (int64_t)x * run->layout.bias_stride);
  }
}
