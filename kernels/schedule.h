/* The step's work list, as plain data: which items there are, and which heads, rows and keys an item has.
 *
 * An item is (request, query heads [h0, h1), query rows [row0, row0 + rows), split of the keys). All its heads use one list of
 * segments, so where a mask depends on the head (S2), heads are cut there too. The tiles of a request depend on the request and
 * on the shape alone.
 *
 * Items are not stored: a request keeps its counts and the first rows of its tiles, and an item's number is taken apart on the
 * fly. So the list costs one int32 a tile, and items of one request are numbered heads outermost, then tiles from the last (under
 * a causal mask the longest) to the first, then splits: what runs at the same time shares keys, and what is left for the end is
 * short.
 */
#ifndef SPINDLE_KERNELS_SCHEDULE_H
#define SPINDLE_KERNELS_SCHEDULE_H

#include "segments.h"

/* What the shape and the backend fix. */
typedef struct spindle__schedule {
  int32_t num_q_heads, group; /* group: query heads of a KV head */
  int32_t item_rows;          /* most packed rows (rows x query heads) of an item */
  int32_t few_rows;           /* a request of at most so many packed rows a KV head takes several KV heads into one item */
} spindle__schedule;

/* One request's part of the list. */
typedef struct spindle__work {
  int64_t first_item; /* items of the requests before it */
  int32_t num_tiles;
  int32_t first_tile; /* tile x has rows [tiles[first_tile + x], tiles[first_tile + x + 1]) */
  int32_t head_cut;   /* heads from here on are shifted (S2); else num_q_heads */
  int32_t head_step;  /* heads of an item, at most */
  int32_t num_splits; /* 1: an item walks all its keys */
  int32_t split_by_index;
  int64_t split_size;    /* by index: split s holds the indices [(split_base + s) split_size, + split_size) */
  int64_t split_base;    /* else: of the tile's visible keys, counted along its segments, [s split_size, + split_size) */
  int64_t first_partial; /* split: partial results of (row, head, split s) at first_partial + (row num_q_heads + head) num_splits
                            + s */
} spindle__work;

typedef struct spindle__item {
  int32_t row0, rows;
  int32_t h0, h1;
  int32_t shifted;
  int32_t split;
  int32_t tile; /* its number in the request */
} spindle__item;

/* Rows of a tile, at most. */
SPINDLE__SHARED int32_t spindle__tile_rows(const spindle__schedule *s) {
  return s->group < s->item_rows ? s->item_rows / s->group : 1;
}

/* First row of the tile after the one that begins at `row`, at most q_len. */
SPINDLE__SHARED int32_t spindle__next_tile(const spindle__schedule *s, const spindle_position *p, int64_t q_index, int32_t q_len,
                                           int32_t row) {
  return (int32_t)spindle__min(spindle__tile_end(p, q_index + row, spindle__tile_rows(s)) - q_index, q_len);
}

/* 1: all tiles but the last have spindle__tile_rows rows. 0: chunks and groups of the text cut them too. */
SPINDLE__SHARED int spindle__tiles_are_even(const spindle_position *p) {
  return p->remap != SPINDLE_REMAP_DCA && p->remap != SPINDLE_REMAP_DCA_PAPER && !p->chunk && !p->s2_group;
}

SPINDLE__SHARED int32_t spindle__count_tiles(const spindle__schedule *s, const spindle_position *p, int64_t q_index,
                                             int32_t q_len) {
  int32_t count = 0;
  if (spindle__tiles_are_even(p)) return (int32_t)spindle__ceil_div(q_len, spindle__tile_rows(s));
  for (int32_t row = 0; row < q_len; row = spindle__next_tile(s, p, q_index, q_len, row)) count++;
  return count;
}

/* Writes the first rows of the request's tiles and, past them, q_len; returns the number of tiles. tiles: room for q_len + 1. */
SPINDLE__SHARED int32_t spindle__cut_tiles(const spindle__schedule *s, const spindle_position *p, int64_t q_index, int32_t q_len,
                                           int32_t *tiles) {
  int32_t count = 0;
  for (int32_t row = 0; row < q_len; row = spindle__next_tile(s, p, q_index, q_len, row)) tiles[count++] = row;
  tiles[count] = q_len;
  return count;
}

/* Rounded up: how many steps, and so the size of as many even ones. */
SPINDLE__SHARED int32_t spindle__in_steps(int32_t count, int32_t step) { return (count + step - 1) / step; }

SPINDLE__SHARED void spindle__cut_heads(const spindle__schedule *s, const spindle_position *p, int32_t q_len, spindle__work *w) {
  int64_t packed = (int64_t)q_len * s->group;
  int32_t kv_heads = s->num_q_heads / s->group;
  w->head_cut = p->s2_group ? s->num_q_heads / 2 : s->num_q_heads;
  w->head_step = spindle__in_steps(s->group, spindle__in_steps(s->group, s->item_rows));
  if (packed <= s->few_rows) {
    int32_t most = (int32_t)spindle__max(1, s->item_rows / packed); /* KV heads that fit */
    w->head_step = s->group * spindle__in_steps(kv_heads, spindle__in_steps(kv_heads, most));
  }
}

/* Heads are cut from an end of all heads, the unshifted ones from the first, the shifted ones from the last, for from either end
 * KV heads begin at multiples of the group: where half of the heads is no such multiple, S2 cuts the group in the middle. A span
 * is a KV head's group, or several whole groups; items cut it evenly and have heads of no other. */
SPINDLE__SHARED int32_t spindle__head_span(const spindle__schedule *s, const spindle__work *w) {
  return w->head_step > s->group ? w->head_step : s->group;
}

SPINDLE__SHARED int32_t spindle__head_ranges(const spindle__schedule *s, const spindle__work *w, int32_t heads) {
  int32_t span = spindle__head_span(s, w);
  return heads / span * spindle__in_steps(span, w->head_step) + spindle__in_steps(heads % span, w->head_step);
}

/* Heads of range x, counted from the end that it is cut from. */
SPINDLE__SHARED void spindle__head_range(const spindle__schedule *s, const spindle__work *w, int32_t x, int32_t *first,
                                         int32_t *end) {
  int32_t span = spindle__head_span(s, w), ranges = spindle__in_steps(span, w->head_step);
  *first = x / ranges * span + x % ranges * w->head_step;
  *end = (int32_t)spindle__min(*first + w->head_step, (x / ranges + 1) * span);
}

SPINDLE__SHARED int32_t spindle__num_head_ranges(const spindle__schedule *s, const spindle__work *w) {
  return spindle__head_ranges(s, w, w->head_cut) + spindle__head_ranges(s, w, s->num_q_heads - w->head_cut);
}

SPINDLE__SHARED int64_t spindle__num_items(const spindle__schedule *s, const spindle__work *w) {
  return (int64_t)spindle__num_head_ranges(s, w) * w->num_tiles * w->num_splits;
}

/* Item number x of the request. */
SPINDLE__SHARED spindle__item spindle__work_item(const spindle__schedule *s, const spindle__work *w, const int32_t *tiles,
                                                 int64_t x) {
  int64_t per_range = (int64_t)w->num_tiles * w->num_splits;
  int32_t range = (int32_t)(x / per_range), before = spindle__head_ranges(s, w, w->head_cut), first, end;
  const int32_t *tile;
  spindle__item item;
  item.tile = (int32_t)(w->num_tiles - 1 - x % per_range / w->num_splits);
  tile = tiles + w->first_tile + item.tile;
  item.row0 = tile[0];
  item.rows = tile[1] - tile[0];
  item.split = (int32_t)(x % w->num_splits);
  item.shifted = range >= before;
  spindle__head_range(s, w, item.shifted ? range - before : range, &first, &end);
  item.h0 = item.shifted ? (int32_t)spindle__max(s->num_q_heads - end, w->head_cut) : first;
  item.h1 = item.shifted ? s->num_q_heads - first : (int32_t)spindle__min(end, w->head_cut);
  return item;
}

/* ---- Cutting segments to a split ---- */

/* Keeps the keys with indices in [j0, j1). Maps, groups and order stay. */
SPINDLE__SHARED int32_t spindle__clip_by_index(const spindle__segment *in, int32_t count, int64_t j0, int64_t j1,
                                               spindle__segment *out) {
  int32_t kept = 0;
  for (int32_t k = 0; k < count; k++) {
    int64_t a = spindle__max(in[k].j0, j0), b = spindle__min(in[k].j1, j1);
    if (a >= b) continue;
    out[kept] = in[k];
    out[kept].j0 = a;
    out[kept++].j1 = b;
  }
  return kept;
}

/* Keeps the keys numbered [x0, x1), counted through the list. */
SPINDLE__SHARED int32_t spindle__clip_by_count(const spindle__segment *in, int32_t count, int64_t x0, int64_t x1,
                                               spindle__segment *out) {
  int32_t kept = 0;
  int64_t before = 0;
  for (int32_t k = 0; k < count; k++) {
    kept += spindle__clip_by_index(&in[k], 1, in[k].j0 + (x0 - before), in[k].j0 + (x1 - before), &out[kept]);
    before += in[k].j1 - in[k].j0;
  }
  return kept;
}

/* How many keys the list walks. */
SPINDLE__SHARED int64_t spindle__count_keys(const spindle__segment *in, int32_t count) {
  int64_t keys = 0;
  for (int32_t k = 0; k < count; k++) keys += in[k].j1 - in[k].j0;
  return keys;
}

#endif
