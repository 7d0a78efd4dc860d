/* One item: its segments, each segment's key tiles, each tile against the item's heads. */
#include <math.h>
#include <string.h>

#include "../../kernels/rope/interpolation.h"
#include "cpu.h"

#define XPOS_KEYS 2048

/* A pair's score decays by zeta_t^(dist / scale_base). One centre serves keys over which that is at most 2^7. */
static void set_up_decay(spindle__cpu_task *t) {
  const spindle__resolved *rule = &t->r->resolved;
  int32_t padded = t->run->layout.channels.pairs_padded;
  int32_t d = 2 * rule->num_pairs;
  t->xpos_keys = 0;
  if (rule->scale_base == 0) return;
  for (int32_t p = 0; p < padded; p++) t->rate[p] = p < rule->num_pairs ? spindle__xpos_log2_zeta(d, p) / rule->scale_base : 0;
  for (t->xpos_keys = XPOS_KEYS; t->xpos_keys > 8 && t->xpos_keys > 4 * rule->scale_base;) t->xpos_keys /= 2;
}

static void set_up(spindle__cpu_task *t, const spindle__cpu_run *run, const spindle__cpu_request *r, const spindle__item *item,
                   char *scratch) {
  const spindle__cpu_layout *y = &run->layout;
  t->run = run;
  t->r = r;
  t->item = *item;
  t->i0 = r->request.q_index + item->row0;
  t->i1 = t->i0 + item->rows;
  t->num_packed = item->rows * (item->h1 - item->h0);
  t->few = item->rows * spindle__min(y->schedule.group, item->h1 - item->h0) <= SPINDLE__CPU_FEW_ROWS;
  t->q_stride = t->few ? y->channels.staged : y->channels.depth;
  t->q = (void *)(scratch + y->q);
  t->k = (void *)(scratch + y->k);
  t->v = (void *)(scratch + y->v);
  t->s = (void *)(scratch + y->s);
  t->c = (void *)(scratch + y->c);
  t->sn = (void *)(scratch + y->sn);
  t->bias = (void *)(scratch + y->bias);
  t->lo = (void *)(scratch + y->lo);
  t->hi = (void *)(scratch + y->hi);
  t->sums = (spindle__cpu_sums){(void *)(scratch + y->o), (void *)(scratch + y->m), (void *)(scratch + y->l)};
  t->whole = (spindle__cpu_sums){(void *)(scratch + y->whole_o), (void *)(scratch + y->whole_m), (void *)(scratch + y->whole_l)};
  set_up_decay(t);
}

/* Turns the tile's cos and sin into t->c and t->sn; false if keys are read as they lie. */
static bool turn_keys(spindle__cpu_task *t, const spindle__map *map, int64_t centre) {
  const spindle__cpu_kernels *kernels = t->run->kernels;
  int32_t count = t->keys.count, pairs = t->run->layout.channels.pairs_padded;
  int64_t at[SPINDLE__CPU_TILE_KEYS];
  const uint64_t *step, *offset;
  spindle__cpu_phases(&t->r->resolved, map, &step, &offset);
  if (t->run->plan->shape.key_state == SPINDLE_KEYS_ROTATED || (!step && !t->xpos_keys)) return false;
  for (int32_t x = 0; x < count; x++) at[x] = spindle__map_at(map, t->keys.index[x]);
  kernels->cos_sin(at, count, step ? step : t->r->resolved.step, offset, pairs, t->c, t->sn);
  if (t->xpos_keys) {
    double rate[SPINDLE__MAX_PAIRS];
    for (int32_t p = 0; p < pairs; p++) rate[p] = -t->rate[p];
    for (int32_t x = 0; x < count; x++) at[x] = t->keys.index[x] - centre;
    kernels->decay(at, count, rate, pairs, t->c, t->sn);
  }
  return true;
}

/* Rows of K or V of a head. */
static spindle__cpu_rows rows_of(const spindle__cpu_task *t, const spindle_cache *cache, int32_t kv_head) {
  int32_t dtype = t->run->plan->shape.kv_dtype;
  bool k = cache == &t->run->args->k;
  spindle__cpu_rows rows = {.dtype = dtype,
                            .dim = k ? t->run->plan->shape.head_dim_qk : t->run->plan->shape.head_dim_v,
                            .count = t->keys.count,
                            .offset = k ? t->keys.k_offset : t->keys.v_offset};
  rows.data = (const char *)cache->data + kv_head * cache->head * (int64_t)spindle__dtype_bytes(dtype);
  return rows;
}

static void attend_unit(spindle__cpu_task *t, const spindle__cpu_unit *u, bool turned) {
  const spindle__cpu_run *run = t->run;
  const spindle__cpu_layout *y = &run->layout;
  const spindle_shape *shape = &run->plan->shape;
  spindle__cpu_rows k = rows_of(t, &run->args->k, u->kv_head), v = rows_of(t, &run->args->v, u->kv_head);
  spindle__cpu_tile tile = {.rows = t->item.rows * u->heads,
                            .group = u->heads,
                            .depth = shape->head_dim_qk,
                            .values = shape->head_dim_v,
                            .o_stride = y->o_stride};
  tile.q = t->q + (int64_t)u->base * t->q_stride;
  tile.k = t->k;
  tile.v = t->v;
  tile.v_rows = t->few ? &v : NULL;
  tile.s = t->s;
  tile.o = t->sums.o + (int64_t)u->base * y->o_stride;
  tile.m = t->sums.m + u->base;
  tile.l = t->sums.l + u->base;
  tile.lo = t->lo;
  tile.hi = t->hi;
  tile.softcap = (float)(run->args->softcap * SPINDLE__CPU_LOG2_E);
  if (shape->bias) {
    spindle__cpu_fill_bias(t, u);
    tile.bias = t->bias;
    tile.bias_stride = y->bias_stride;
    tile.bias_shift = t->item.rows - 1;
    tile.bias_column = t->keys.contiguous ? NULL : t->keys.column;
  }
  if (t->few) {
    run->kernels->score_keys(&y->channels, &k, turned ? t->c : NULL, t->sn, tile.q, tile.rows, t->s);
  } else {
    run->kernels->pack_keys(&y->channels, &k, turned ? t->c : NULL, t->sn, t->k);
    tile.v_finite = run->kernels->pack_values(&v, t->v);
  }
  run->kernels->attend(&tile);
}

/* Keys [j0, j1) of a segment, under one centre of decay. */
static void walk_keys(spindle__cpu_task *t, const spindle__segment *segment, int64_t j0, int64_t j1, int64_t centre) {
  spindle__cpu_key_reader reader = spindle__cpu_read_keys(t, j0, j1);
  bool packed = false;
  while (spindle__cpu_next_tile(&reader, &t->keys)) {
    if (!spindle__cpu_visible(t, segment)) continue;
    if (!packed) spindle__cpu_pack_queries(t, segment, centre);
    packed = true;
    bool turned = turn_keys(t, &segment->k_map, centre);
    for (spindle__cpu_unit u = {0}; spindle__cpu_next_unit(t, &u);) attend_unit(t, &u, turned);
  }
}

/* The index of the first key present in [j0, j1), or j1. */
static int64_t first_key(const spindle__cpu_task *t, int64_t j0, int64_t j1) {
  spindle__key_cursor cursor = spindle__keys_in(&t->run->plan->batch, &t->r->request, j0, j1);
  spindle__key_run run;
  return j0 < j1 && spindle__keys_next(&cursor, &run) ? run.index : j1;
}

/* Under xPos in blocks of keys with a centre each: first the block's start, so that neither side's magnitudes leave the range of
 * float. */
static void walk_segments(spindle__cpu_task *t, const spindle__segment *segments, int32_t count) {
  for (int32_t k = 0; k < count; k++) {
    const spindle__segment *s = &segments[k];
    if (!t->xpos_keys) walk_keys(t, s, s->j0, s->j1, 0);
    for (int64_t j = s->j0, end; t->xpos_keys && (j = first_key(t, j, s->j1)) < s->j1; j = end) {
      int64_t centre = j / t->xpos_keys * t->xpos_keys;
      end = spindle__min(centre + t->xpos_keys, s->j1);
      walk_keys(t, s, j, end, centre);
    }
  }
}

/* Fixed splits in turn: each starts from nothing and is then added to the whole, as if another thread had made it. */
static void walk_splits_in_turn(spindle__cpu_task *t, const spindle__segment *segments, int32_t count) {
  int64_t size = t->r->work.split_size, end = t->r->request.key_hi;
  spindle__segment part[SPINDLE__MAX_SEGMENTS];
  spindle__cpu_clear(t, &t->whole);
  for (int64_t j = t->r->request.key_lo; j < end;) {
    int64_t next = end; /* the first key index that some segment still has */
    for (int32_t k = 0; k < count; k++)
      if (segments[k].j1 > j) next = spindle__min(next, spindle__max(segments[k].j0, j));
    int64_t split = first_key(t, next, end) / size;
    if (split * size >= end) break;
    spindle__cpu_clear(t, &t->sums);
    walk_segments(t, part, spindle__clip_by_index(segments, count, split * size, (split + 1) * size, part));
    spindle__cpu_merge(&t->whole, &t->sums, t->num_packed, t->run->layout.o_stride);
    j = (split + 1) * size;
  }
  t->sums = t->whole;
}

static void write_rows(const spindle__cpu_task *t) {
  const spindle__cpu_run *run = t->run;
  int32_t stride = run->layout.o_stride, num_heads = run->plan->shape.num_q_heads, splits = t->r->work.num_splits;
  for (spindle__cpu_unit u = {0}; spindle__cpu_next_unit(t, &u);) {
    for (int32_t x = 0; x < t->item.rows * u.heads; x++) {
      int32_t p = u.base + x, row = t->item.row0 + x / u.heads, head = u.h0 + x % u.heads;
      float *o = t->sums.o + (int64_t)p * stride;
      if (splits == 1) {
        spindle__cpu_finish_row(run, t->r, row, head, o, t->sums.m[p], t->sums.l[p]);
        continue;
      }
      int64_t at = t->r->work.first_partial + ((int64_t)row * num_heads + head) * splits + t->item.split;
      memcpy(run->partial_o + at * stride, o, (size_t)stride * sizeof *o);
      run->partial_m[at] = t->sums.m[p];
      run->partial_l[at] = t->sums.l[p];
    }
  }
}

void spindle__cpu_run_item(const spindle__cpu_run *run, const spindle__cpu_request *r, const spindle__item *item,
                           char *thread_scratch) {
  const spindle__work *w = &r->work;
  spindle__cpu_task t;
  spindle__segment all[SPINDLE__MAX_SEGMENTS], part[SPINDLE__MAX_SEGMENTS];
  set_up(&t, run, r, item, thread_scratch);
  int32_t count =
      spindle__segments(&r->position, r->request.n, item->shifted, t.i0, t.i1, r->request.key_lo, r->request.key_hi, all);
  spindle__cpu_clear(&t, &t.sums);
  if (w->split_by_index && w->num_splits == 1) {
    walk_splits_in_turn(&t, all, count);
  } else if (w->num_splits == 1) {
    walk_segments(&t, all, count);
  } else {
    int64_t from = w->split_base * w->split_size * w->split_by_index + item->split * w->split_size, to = from + w->split_size;
    count = w->split_by_index ? spindle__clip_by_index(all, count, from, to, part)
                              : spindle__clip_by_count(all, count, from, to, part);
    walk_segments(&t, part, count);
  }
  write_rows(&t);
}
