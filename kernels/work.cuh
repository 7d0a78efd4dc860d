/* Items, as the kernels that walk them see them: which item a block works on, its packed rows, and the segment at work. */
#ifndef SPINDLE_KERNELS_WORK_CUH
#define SPINDLE_KERNELS_WORK_CUH

#include "launch.h"
#include "prim/prim.cuh"
#include "rope/interpolation.h"
#include "rope/row_scale.h"

namespace spindle {

constexpr double LOG2_E = 1.4426950408889634;

/* What a block does next. One thread decides, all do it. */
enum class Step : int32_t {
  STOP,
  BEGIN, /* an item */
  WALK,  /* the segment at work */
  ADD,   /* the sums of the splits before to those of the split walked: this block walks them in turn */
  KEEP,  /* the sums so far, for the next split */
  STORE  /* the item's rows */
};

/* How far an item's list of segments has been walked. */
struct Cursor {
  int64_t from, to; /* the part of the keys at work: of indices, or of keys counted through the list */
  int64_t before;   /* keys of the segments before this one */
  int64_t next;     /* the first index of this one that has not been walked */
  int32_t segment;
  bool by_index;
  bool in_turn; /* fixed splits that no other block shares: a part each */
  bool later;   /* there has been a part before this one */
};

/* In shared memory: an item, and how far it has been walked. Row r of it is packed row r: query row r / heads under query head
 * h0 + r % heads. */
template <int Rows>
struct Walk {
  static constexpr int ROWS = Rows;
  spindle__item item;
  int32_t request; /* in state.requests */
  int32_t kv_head;
  int32_t num_segments;
  const spindle__segment *segments;
  Step step;
  Cursor cursor;
  int32_t row[Rows]; /* of the request; -1: none */
  int32_t head[Rows];
  float scale[Rows]; /* of scores, >= 0, in units of log 2 */
  float sign[Rows];  /* of the scale; queries are multiplied by it. 0 where the scale is 0: all scores are 0 then */
  uint32_t signs[(Rows + 31) / 32]; /* rows whose sign is not 1 */
  float bias_a[Rows], bias_p[Rows];
  float rates[SPINDLE__MAX_PAIRS / 2]; /* xPos: log2 of what a pair of the query grows by per token; head dims up to 256 */
};

/* And the segment at work. */
template <int Rows>
struct Work : Walk<Rows> {
  const spindle__segment *segment;
  int64_t j0, j1;             /* its keys with indices in [j0, j1): all, or those of a split or of a decay block */
  int64_t slot0, slot1;       /* its slots */
  int64_t full_from, full_to; /* keys with indices in [full_from, full_to] are seen by all rows of the item */
  int64_t centre;             /* xPos */
  int16_t group[Rows];        /* of the segment, -1: none. No bytes: the emulator tells writers of halfwords apart */
  int64_t position[Rows];
  float distance[Rows]; /* xPos: from the centre */
};

/* ---- Items ---- */

/* The request that item x belongs to: the last whose first item is not after it. */
SPINDLE__DEVICE int32_t request_of(const spindle__state &state, int32_t list, int64_t x) {
  int32_t low = 0, high = state.totals->num_requests;
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    if (state.requests[middle].items_before[list] <= x)
      low = middle;
    else
      high = middle;
  }
  return low;
}

SPINDLE__DEVICE void find_segments(const spindle__attention_params &p, const spindle__prepared &r, const spindle__item &item,
                                   const spindle__segment *&segments, int32_t &count) {
  const spindle__tile &tile = p.state.tile_segments[r.work.first_tile + item.tile];
  segments = p.state.segments + tile.first[item.shifted];
  count = tile.count[item.shifted];
  if (count >= 0) return;
  spindle__segment *spilled = p.state.spilled + (int64_t)prim::block_x() * SPINDLE__MAX_SEGMENTS;
  const int64_t i0 = r.request.q_index + item.row0;
  count = spindle__segments_in(p.state.rooms + prim::block_x(), &r.position, r.request.n, item.shifted, i0, i0 + item.rows,
                               r.request.key_lo, r.request.key_hi, spilled);
  segments = spilled;
}

/* Takes the next item of this launch's KV heads, if there is one. The counter wraps to 0 with the last block's last attempt, so
 * the next run finds it as prepare left it: a run makes num_items + grid attempts. */
template <int Rows>
SPINDLE__DEVICE bool take_item(const spindle__attention_params &p, Work<Rows> &work) {
  spindle__totals *totals = p.state.totals;
  const uint32_t last = (uint32_t)totals->num_items[p.list] + (uint32_t)prim::grid_x() - 1;
  for (;;) {
    const int64_t x = prim::atomic_inc(&totals->items_taken[p.list], last);
    if (x >= totals->num_items[p.list]) return false;
    const int32_t request = request_of(p.state, p.list, x);
    const spindle__prepared &r = p.state.requests[request];
    work.item = spindle__work_item(&p.schedule, &r.work, p.state.tiles, x - r.work.first_item);
    work.request = request;
    work.kv_head = work.item.h0 / p.schedule.group;
    if (work.kv_head < p.kv_begin || work.kv_head >= p.kv_end) continue;
    find_segments(p, r, work.item, work.segments, work.num_segments);
    return true;
  }
}

/* What multiplies a product of rotated query and stored key, in units of log 2. */
SPINDLE__DEVICE double score_scale(const spindle__attention_params &p, const spindle__prepared &r, int32_t row, int32_t head) {
  double scale = (double)p.args.scale * r.softmax_scale_factor * LOG2_E;
  if (p.args.k.scale) scale *= p.args.k.scale[head / p.schedule.group * p.args.k.scale_head];
  if (r.position.row_scale == SPINDLE_ROWSCALE_NONE) return scale;
  double factor = spindle__row_scale(&r.position, r.request.q_index + row, r.request.n);
  if (r.position.row_scale == SPINDLE_ROWSCALE_SSMAX && p.args.row_scale_s) {
    factor = p.args.row_scale_s[head] * factor;
    if (p.args.row_scale_b) factor += p.args.row_scale_b[head];
  }
  return scale * factor;
}

/* All threads, after the item is known; a sync_block must follow. Blocks have at least Rows threads. */
template <int Rows>
SPINDLE__DEVICE_CALLED void begin_item(const spindle__attention_params &p, Work<Rows> &work) {
  const spindle__prepared &r = p.state.requests[work.request];
  const int thread = prim::thread_index(), heads = work.item.h1 - work.item.h0;
  float scale = 1.0f;
  if (thread < Rows) {
    const int row = work.item.row0 + thread / heads, head = work.item.h0 + thread % heads;
    const bool used = thread < work.item.rows * heads && r.request.q_begin + row < p.args.q_rows;
    if (used) scale = (float)score_scale(p, r, row, head);
    work.row[thread] = used ? row : -1;
    work.head[thread] = head;
    work.scale[thread] = scale == 0.0f ? 1.0f : fabsf(scale);
    work.sign[thread] = scale > 0.0f ? 1.0f : scale < 0.0f ? -1.0f : 0.0f;
    work.bias_a[thread] = used && p.args.bias_a ? p.args.bias_a[head] : 0.0f;
    work.bias_p[thread] = used && p.args.bias_p ? p.args.bias_p[head] : 0.0f;
  }
  if (thread / 32 < (Rows + 31) / 32) {
    const uint32_t signs = prim::ballot(!(scale > 0.0f));
    if (prim::lane() == 0) work.signs[thread / 32] = signs;
  }
  for (int t = thread; r.scale_base > 0 && t < p.shape.rotary_dim / 2; t += prim::block_threads())
    work.rates[t] = (float)(spindle__xpos_log2_zeta(p.shape.rotary_dim, t) / r.scale_base);
}

/* Packed rows of the item. */
template <int Rows>
SPINDLE__DEVICE int num_rows(const Work<Rows> &work) {
  return work.item.rows * (work.item.h1 - work.item.h0);
}

/* ---- Segments ---- */

/* The index of the first key present in [j0, j1), or j1. */
SPINDLE__DEVICE_CALLED int64_t first_key(const spindle_batch &b, const spindle__request &r, int64_t j0, int64_t j1) {
  int64_t slot0, slot1;
  spindle__slots_in(&b, &r, j0, j1, &slot0, &slot1);
  for (; slot0 < slot1; ++slot0) {
    const spindle__key key = spindle__key_at(&b, &r, slot0);
    if (key.run && key.index >= j0) return spindle__min(key.index, j1);
  }
  return j1;
}

/* The part [j0, j1) of a segment becomes the one at work. */
template <int Rows>
SPINDLE__DEVICE void set_segment(const spindle__attention_params &p, Work<Rows> &work, const spindle__segment &segment,
                                 int64_t j0, int64_t j1, int64_t centre) {
  const spindle__request &r = p.state.requests[work.request].request;
  int64_t rows = 0, from = j0, to = j1 - 1;
  work.segment = &segment;
  work.j0 = j0;
  work.j1 = j1;
  work.centre = centre;
  for (int32_t g = 0; g < segment.num_groups; ++g) {
    const spindle__row_group &group = segment.group[g];
    from = spindle__max(from, group.i1 - 1 - group.dmax);
    to = spindle__min(to, group.i0 - group.dmin);
    rows += group.i1 - group.i0;
  }
  work.full_from = from;
  work.full_to = rows == work.item.rows ? to : from - 1;
  spindle__slots_in(&p.batch, &r, j0, j1, &work.slot0, &work.slot1);
}

/* ---- Steps ---- */

/* Starts on a part of the keys. */
SPINDLE__DEVICE void set_part(Cursor &c, int64_t from, int64_t to) {
  c.from = from;
  c.to = to;
  c.before = 0;
  c.next = -SPINDLE__FAR;
  c.segment = 0;
}

/* Starts on the split that the first key from index j on lies in, of those that some row sees; on nothing if there is none. */
template <int Rows>
SPINDLE__DEVICE void set_next_split(const spindle__attention_params &p, Work<Rows> &work, int64_t j) {
  const spindle__prepared &r = p.state.requests[work.request];
  int64_t next = r.request.key_hi;
  for (int32_t k = 0; k < work.num_segments; ++k) {
    const int64_t from = spindle__max(work.segments[k].j0, j), to = spindle__min(work.segments[k].j1, next);
    if (from >= to) continue;
    const int64_t key = first_key(p.batch, r.request, from, to);
    if (key < to) next = key;
  }
  int64_t rest;
  const int64_t split = spindle__divide(spindle__max(next, 0), r.work.split_size, &rest);
  set_part(work.cursor, split * r.work.split_size, next < r.request.key_hi ? (split + 1) * r.work.split_size : 0);
}

/* Before an item's first keys. */
template <int Rows>
SPINDLE__DEVICE void set_cursor(const spindle__attention_params &p, Work<Rows> &work) {
  const spindle__prepared &r = p.state.requests[work.request];
  const spindle__work &w = r.work;
  Cursor &c = work.cursor;
  c.in_turn = w.num_splits == 1 && w.split_by_index;
  c.later = false;
  c.by_index = w.num_splits == 1 || w.split_by_index;
  if (c.in_turn) {
    set_part(c, r.request.key_lo - 1, r.request.key_lo); /* nothing, in front of the first split */
    c.segment = work.num_segments;
  } else if (w.num_splits == 1) {
    set_part(c, -SPINDLE__FAR, SPINDLE__FAR);
  } else {
    const int64_t from = (w.split_by_index ? w.split_base + work.item.split : work.item.split) * w.split_size;
    set_part(c, from, from + w.split_size);
  }
}

/* Sets the segment at work to the next keys of the part; under xPos to a block of keys with one centre of decay. false: none are
 * left. */
template <int Rows>
SPINDLE__DEVICE bool next_keys(const spindle__attention_params &p, Work<Rows> &work) {
  const spindle__prepared &r = p.state.requests[work.request];
  Cursor &c = work.cursor;
  while (c.segment < work.num_segments && c.from < c.to) {
    const spindle__segment &s = work.segments[c.segment];
    const int64_t shift = c.by_index ? 0 : s.j0 - c.before;
    int64_t j0 = spindle__max(spindle__max(s.j0, c.from + shift), c.next), j1 = spindle__min(s.j1, c.to + shift), centre = 0;
    if (j0 < j1 && r.scale_base > 0) {
      const int64_t block = spindle__decay_block(r.scale_base);
      j0 = first_key(p.batch, r.request, j0, j1);
      centre = j0 & -block;
      j1 = spindle__min(j1, centre + block);
    }
    if (j0 >= j1) {
      c.before += s.j1 - s.j0;
      c.next = -SPINDLE__FAR;
      c.segment++;
      continue;
    }
    c.next = j1;
    set_segment(p, work, s, j0, j1, centre);
    if (work.slot0 < work.slot1) return true;
  }
  return false;
}

template <int Rows>
SPINDLE__DEVICE_CALLED void next_item(const spindle__attention_params &p, Work<Rows> &work) {
  work.step = take_item(p, work) ? Step::BEGIN : Step::STOP;
  if (work.step == Step::BEGIN) set_cursor(p, work);
}

template <int Rows>
SPINDLE__DEVICE_CALLED Step next_step(const spindle__attention_params &p, Work<Rows> &work) {
  Cursor &c = work.cursor;
  const Step last = work.step;
  if (last == Step::KEEP) c.later = true;
  while (last != Step::ADD) {
    if (next_keys(p, work)) return Step::WALK;
    if (!c.in_turn || c.from >= c.to) break;
    set_next_split(p, work, c.to);
    if (last == Step::BEGIN) continue; /* so far there is nothing to keep */
    if (c.later) return Step::ADD;
    break;
  }
  return c.in_turn && c.from < c.to ? Step::KEEP : Step::STORE;
}

/* All threads: what to do next, once all are done with what was before. */
template <int Rows>
SPINDLE__DEVICE Step decide(const spindle__attention_params &p, Work<Rows> &work) {
  prim::sync_block();
  if (prim::thread_index() == 0) work.step = next_step(p, work);
  prim::sync_block();
  return work.step;
}

/* ---- Rows in a segment ---- */

/* All threads, when a segment is set: each row's group and position. */
template <int Rows>
SPINDLE__DEVICE void place_rows(const spindle__attention_params &p, Work<Rows> &work) {
  const spindle__prepared &r = p.state.requests[work.request];
  const int thread = prim::thread_index();
  if (thread >= Rows) return;
  const int64_t i = r.request.q_index + work.row[thread];
  int group = -1;
  for (int32_t g = 0; work.row[thread] >= 0 && g < work.segment->num_groups; ++g)
    if (i >= work.segment->group[g].i0 && i < work.segment->group[g].i1) group = g;
  work.group[thread] = (int16_t)group;
  work.position[thread] = group < 0 ? 0 : spindle__map_at(&work.segment->group[group].q_map, i);
  work.distance[thread] = (float)(i - work.centre);
}

/* The keys [from, to) that a row sees of the segment at work. */
template <int Rows>
SPINDLE__DEVICE void seen_by_row(const spindle__attention_params &p, const Work<Rows> &work, int row, int64_t &from,
                                 int64_t &to) {
  from = to = 0;
  if (work.group[row] < 0) return;
  const spindle__row_group &group = work.segment->group[work.group[row]];
  const int64_t i = p.state.requests[work.request].request.q_index + work.row[row];
  from = spindle__max(i - group.dmax, work.j0);
  to = spindle__min(i - group.dmin + 1, work.j1);
}

}  // namespace spindle

#endif
