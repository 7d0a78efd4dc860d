/* The units of an item, and the query rows of a segment: rotated by their group's map and scaled, so that a product with a key is
 * a score in units of log 2. */
#include <math.h>
#include <string.h>

#include "../../kernels/rope/row_scale.h"
#include "cpu.h"

bool spindle__cpu_next_unit(const spindle__cpu_task *t, spindle__cpu_unit *u) {
  int32_t group = t->run->layout.schedule.group, first = u->heads ? u->h0 + u->heads : t->item.h0;
  if (first >= t->item.h1) return false;
  u->base = (first - t->item.h0) * t->item.rows;
  u->kv_head = first / group;
  u->h0 = first;
  u->heads = (int32_t)spindle__min((int64_t)(u->kv_head + 1) * group, t->item.h1) - first;
  return true;
}

void spindle__cpu_phases(const spindle__resolved *resolved, const spindle__map *map, const uint64_t **step,
                         const uint64_t **offset) {
  bool at_zero = map->a == 0 && map->offset == 0 && !map->scaled;
  *step = !resolved->rotates || at_zero ? NULL : map->scaled ? resolved->scaled_step : resolved->step;
  *offset = map->scaled == 2 ? resolved->scaled_offset : NULL;
}

/* All that multiplies the scores of a row under one head, in units of log 2. */
static double score_scale(const spindle__cpu_task *t, const spindle__cpu_unit *u, int32_t head, double row) {
  const spindle_attention_args *args = t->run->args;
  double scale = (double)args->scale * t->r->resolved.softmax_scale_factor * SPINDLE__CPU_LOG2_E;
  if (t->r->position.row_scale == SPINDLE_ROWSCALE_SSMAX)
    row = args->row_scale_s[head] * row + (args->row_scale_b ? (double)args->row_scale_b[head] : 0.0);
  if (args->softcap > 0) scale *= 2.0 / (double)args->softcap; /* tanh x = 1 - 2 / (2^(2 x log2 e) + 1) */
  if (args->k.scale && t->run->plan->shape.kv_dtype == SPINDLE_F8E4M3)
    scale *= (double)args->k.scale[u->kv_head * args->k.scale_head];
  return scale * row;
}

/* Scaled as it stands: for products with staged keys. */
static void scale_query(const spindle__cpu_channels *ch, const float *staged, float rotated_scale, float scale, float *q) {
  for (int32_t x = 0; x < 2 * ch->pairs_padded; x++) q[x] = staged[x] * rotated_scale;
  for (int32_t x = 2 * ch->pairs_padded; x < ch->staged; x++) q[x] = staged[x] * scale;
}

/* Row i under the heads of all units; c and s turn it, or are NULL. */
static void pack_row(spindle__cpu_task *t, int64_t i, const float *c, const float *s) {
  const spindle__cpu_run *run = t->run;
  const spindle__cpu_channels *ch = &run->layout.channels;
  const spindle_shape *shape = &run->plan->shape;
  const spindle_rows *q = &run->args->q;
  float staged[SPINDLE__CPU_MAX_STAGED];
  memset(staged, 0, (size_t)ch->staged * sizeof *staged);
  double a = t->r->resolved.attention_factor, row = spindle__row_scale(&t->r->position, i, t->r->request.n);
  double rotated = shape->key_state == SPINDLE_KEYS_ROTATED ? a : a * a;
  int64_t q_row = t->r->request.q_begin + i - t->r->request.q_index, at = t->r->number * q->batch + q_row * q->row;
  if (q_row >= run->args->q_rows) return; /* the plan's bound may exceed Q; finish_row drops such rows */
  for (spindle__cpu_unit u = {0}; spindle__cpu_next_unit(t, &u);) {
    for (int32_t x = 0; x < u.heads; x++) {
      int32_t head = u.h0 + x;
      double scale = score_scale(t, &u, head, row);
      const char *in = (const char *)q->data + (at + head * q->head) * (int64_t)spindle__dtype_bytes(shape->q_dtype);
      float *to = t->q + (u.base + (i - t->i0) * u.heads + x) * t->q_stride;
      run->kernels->stage(ch, in, shape->q_dtype, c, s, staged);
      if (t->few)
        scale_query(ch, staged, (float)(scale * rotated), (float)scale, to);
      else
        run->kernels->pack_query(ch, staged, (float)(scale * rotated), (float)scale, to);
    }
  }
}

/* Rows [i0, i1) of a group, at most a key tile's worth: t->c and t->sn hold their cos and sin. */
static void pack_rows(spindle__cpu_task *t, const spindle__map *map, int64_t i0, int64_t i1, int64_t centre) {
  const spindle__cpu_kernels *kernels = t->run->kernels;
  int32_t count = (int32_t)(i1 - i0), pairs = t->run->layout.channels.pairs_padded;
  int64_t at[SPINDLE__CPU_TILE_KEYS] = {0};
  const uint64_t *step, *offset;
  spindle__cpu_phases(&t->r->resolved, map, &step, &offset);
  bool turned = step || t->xpos_keys;
  if (turned) {
    for (int32_t x = 0; x < count; x++) at[x] = spindle__map_at(map, i0 + x);
    kernels->cos_sin(at, count, step ? step : t->r->resolved.step, offset, pairs, t->c, t->sn);
  }
  if (t->xpos_keys) {
    for (int32_t x = 0; x < count; x++) at[x] = i0 + x - centre;
    kernels->decay(at, count, t->rate, pairs, t->c, t->sn);
  }
  for (int32_t x = 0; x < count; x++) {
    int64_t from = (int64_t)x * pairs;
    pack_row(t, i0 + x, turned ? t->c + from : NULL, t->sn + from);
  }
}

void spindle__cpu_pack_queries(spindle__cpu_task *t, const spindle__segment *segment, int64_t centre) {
  for (int32_t g = 0; g < segment->num_groups; g++) {
    const spindle__row_group *group = &segment->group[g];
    for (int64_t i = group->i0; i < group->i1; i += SPINDLE__CPU_TILE_KEYS)
      pack_rows(t, &group->q_map, i, spindle__min(i + SPINDLE__CPU_TILE_KEYS, group->i1), centre);
  }
}
