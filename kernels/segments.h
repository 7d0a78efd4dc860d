/* From a method to the segments of a query tile: the region algebra.
 *
 * A region is a box: rows x keys x distances, with a map for the query's position and one for the key's. A remap is a list of
 * disjoint regions, and so is every mask. The segments of a tile are the intersections of one region of each list, cut to the
 * tile, shrunk to the keys that their rows can see; boxes that share the key map and whose rows are disjoint become one segment
 * with several row groups, so that no key tile is walked twice under one key map. Every visible (i, j) lies in exactly one group
 * of exactly one segment.
 *
 * Pure integers, no allocation: host and device run the same code.
 *
 * Keys here are indices, not slots: a backend intersects [j0, j1) with the keys that are present. Rows before index 0 (more rows
 * than keys) are served like all others: under a causal mask they see nothing.
 */
#ifndef SPINDLE_KERNELS_SEGMENTS_H
#define SPINDLE_KERNELS_SEGMENTS_H

#include <string.h>

#include "params.h"

#define SPINDLE__FAR          ((int64_t)1 << 60) /* beyond every index and distance */
#define SPINDLE__MAX_GROUPS   4 /* row groups of one segment: a tile meets two chunks of at most two kinds that share a key map */
#define SPINDLE__MAX_SEGMENTS 48 /* of one tile; spindle__segment_bound says how many a descriptor really needs */
#define SPINDLE__MAX_REGIONS  6  /* of one list, cut to a tile: DCA has 3 per chunk of rows */

/* Rows [i0, i1) see keys at distances dmin <= i - j <= dmax, and are rotated at q_map(i). */
typedef struct spindle__row_group {
  int64_t i0, i1, dmin, dmax;
  spindle__map q_map;
} spindle__row_group;

typedef struct spindle__segment {
  int64_t j0, j1;
  spindle__map k_map;
  int32_t num_groups;
  spindle__row_group group[SPINDLE__MAX_GROUPS]; /* rows of different groups are disjoint */
} spindle__segment;

/* A box of rows x keys x distances. */
typedef struct spindle__region {
  int64_t j0, j1;
  spindle__row_group rows;
  spindle__map k_map;
  int32_t rolled; /* S2 with wrap: these keys come before the rows, whatever their index says */
} spindle__region;

/* Room to make segments in. Kernels keep it in global memory: a stack of this size would be set aside for every thread that fits
 * on the device. */
typedef struct spindle__segment_room {
  spindle__region boxes[SPINDLE__MAX_SEGMENTS], old[SPINDLE__MAX_SEGMENTS], list[SPINDLE__MAX_REGIONS];
} spindle__segment_room;

/* ---- Maps ---- */

SPINDLE__SHARED spindle__map spindle__map_identity(void) {
  spindle__map m = {0, 1, 1, 0, INT64_MAX, 0};
  return m;
}

SPINDLE__SHARED spindle__map spindle__map_constant(int64_t position) {
  spindle__map m = {0, 1, 0, position, INT64_MAX, 0};
  return m;
}

/* min((x mod modulus) + offset, cap) */
SPINDLE__SHARED spindle__map spindle__map_modulo(int64_t modulus, int64_t offset, int64_t cap) {
  spindle__map m = {modulus, 1, 1, offset, cap, 0};
  return m;
}

/* x div group + offset */
SPINDLE__SHARED spindle__map spindle__map_grouped(int64_t group, int64_t offset) {
  spindle__map m = {0, group, 1, offset, INT64_MAX, 0};
  return m;
}

/* x / k, and for the query the remap's fractional offset too */
SPINDLE__SHARED spindle__map spindle__map_scaled(int with_offset) {
  spindle__map m = {0, 1, 1, 0, INT64_MAX, with_offset ? 2 : 1};
  return m;
}

/* ---- Regions ---- */

/* All of rows [i0, i1), under the given maps. */
SPINDLE__SHARED spindle__region spindle__region_all(int64_t i0, int64_t i1, spindle__map q_map, spindle__map k_map) {
  spindle__region r = {-SPINDLE__FAR, SPINDLE__FAR, {i0, i1, -SPINDLE__FAR, SPINDLE__FAR, q_map}, k_map, 0};
  return r;
}

/* Near: dist <= w - 1 at true positions. Far: dist >= w under the maps given. */
SPINDLE__SHARED int32_t spindle__near_far(int64_t i0, int64_t i1, int64_t w, spindle__map far_q, spindle__map far_k,
                                          spindle__region *out) {
  out[0] = spindle__region_all(i0, i1, spindle__map_identity(), spindle__map_identity());
  out[0].rows.dmax = w - 1;
  out[1] = spindle__region_all(i0, i1, far_q, far_k);
  out[1].rows.dmin = w;
  return 2;
}

/* Keys sit at j mod s; rows of chunk a look at their own chunk, at the one before (exact up to the cap) and at all earlier ones
 * (constant). */
SPINDLE__SHARED int32_t spindle__dca_regions(const spindle_position *p, int64_t i0, int64_t i1, spindle__region *out) {
  int paper = p->remap == SPINDLE_REMAP_DCA_PAPER;
  int64_t s = paper ? p->remap_chunk : p->remap_chunk - p->remap_local;
  int64_t cap = paper ? p->remap_pretrain - 1 : p->remap_chunk;
  int64_t inter = paper ? cap : spindle__min(2 * s - 1, cap);
  spindle__map key = spindle__map_modulo(s, 0, INT64_MAX);
  int32_t count = 0;
  for (int64_t a = spindle__floor_div(i0, s); a * s < i1; a++) {
    int64_t r0 = spindle__max(i0, a * s), r1 = spindle__min(i1, (a + 1) * s);
    spindle__region own = spindle__region_all(r0, r1, key, key);
    own.j0 = a * s;
    own.j1 = (a + 1) * s;
    out[count++] = own;
    if (a >= 1) {
      spindle__region before = spindle__region_all(r0, r1, spindle__map_modulo(s, s, cap), key);
      before.j0 = (a - 1) * s;
      before.j1 = a * s;
      out[count++] = before;
    }
    if (a >= 2) {
      spindle__region earlier = spindle__region_all(r0, r1, spindle__map_constant(inter), key);
      earlier.j1 = (a - 1) * s;
      out[count++] = earlier;
    }
  }
  return count;
}

SPINDLE__SHARED int32_t spindle__remap_regions(const spindle_position *p, int64_t i0, int64_t i1, spindle__region *out) {
  int64_t w = p->remap_window, group = p->remap_group, sinks = p->remap_sink_tokens;
  spindle__map identity = spindle__map_identity();
  switch (p->remap) {
    case SPINDLE_REMAP_REROPE: return spindle__near_far(i0, i1, w, spindle__map_constant(w), spindle__map_constant(0), out);
    case SPINDLE_REMAP_LEAKY_REROPE: return spindle__near_far(i0, i1, w, spindle__map_scaled(1), spindle__map_scaled(0), out);
    case SPINDLE_REMAP_SELF_EXTEND:
      return spindle__near_far(i0, i1, w, spindle__map_grouped(group, w - w / group), spindle__map_grouped(group, 0), out);
    case SPINDLE_REMAP_DCA:
    case SPINDLE_REMAP_DCA_PAPER: return spindle__dca_regions(p, i0, i1, out);
    case SPINDLE_REMAP_STREAMING:
      out[0] = spindle__region_all(i0, i1, spindle__map_modulo(0, 0, sinks + w), identity);
      out[0].j1 = sinks;
      out[1] = spindle__region_all(i0, i1, identity, identity);
      out[1].j0 = sinks;
      out[1].rows.dmax = w;
      return 2;
    case SPINDLE_REMAP_LM_INFINITE:
      spindle__near_far(i0, i1, w, spindle__map_constant(w), spindle__map_constant(0), out);
      out[1].j1 = sinks;
      return 2;
    default: out[0] = spindle__region_all(i0, i1, identity, identity); return 1;
  }
}

SPINDLE__SHARED int32_t spindle__window_regions(const spindle_position *p, int64_t i0, int64_t i1, spindle__region *out) {
  out[0] = spindle__region_all(i0, i1, spindle__map_identity(), spindle__map_identity());
  if (p->window_left) out[0].rows.dmax = p->window_left - 1;
  if (!p->window_left || !p->sink_tokens) return 1;
  out[1] = out[0];
  out[1].j1 = p->sink_tokens;
  out[1].rows.dmin = p->window_left;
  out[1].rows.dmax = SPINDLE__FAR;
  return 2;
}

/* One region per group (x + shift) div size that the rows meet. size 0: no such mask. */
SPINDLE__SHARED int32_t spindle__chunk_regions(int64_t size, int64_t shift, int64_t i0, int64_t i1, spindle__region *out) {
  int32_t count = 0;
  if (!size) {
    out[0] = spindle__region_all(i0, i1, spindle__map_identity(), spindle__map_identity());
    return 1;
  }
  for (int64_t c = spindle__floor_div(i0 + shift, size); c * size - shift < i1; c++) {
    int64_t begin = c * size - shift, end = begin + size;
    out[count] =
        spindle__region_all(spindle__max(i0, begin), spindle__min(i1, end), spindle__map_identity(), spindle__map_identity());
    out[count].j0 = begin;
    out[count].j1 = end;
    count++;
  }
  return count;
}

/* LongLoRA S2. With wrap the last half group is rolled in front of the first: rows [0, G/2) see it whole. (Of a text shorter than
 * a group only the keys that are not in these rows' own group anyway.) */
SPINDLE__SHARED int32_t spindle__s2_regions(const spindle_position *p, int64_t n, int32_t shifted, int64_t i0, int64_t i1,
                                            spindle__region *out) {
  int64_t half = p->s2_group / 2;
  int32_t count = spindle__chunk_regions(p->s2_group, shifted ? half : 0, i0, i1, out);
  if (p->s2_group && p->s2_wrap && shifted && i0 < half) {
    out[count] = spindle__region_all(i0, spindle__min(i1, half), spindle__map_identity(), spindle__map_identity());
    out[count].j0 = spindle__max(n - half, half);
    out[count].j1 = n;
    out[count].rolled = 1;
    count++;
  }
  return count;
}

/* ---- Intersection ---- */

/* b cut to a, in place: maps of b stay. 0 if nothing is left. */
SPINDLE__SHARED int spindle__region_cut(spindle__region *b, const spindle__region *a) {
  b->j0 = spindle__max(b->j0, a->j0);
  b->j1 = spindle__min(b->j1, a->j1);
  b->rows.i0 = spindle__max(b->rows.i0, a->rows.i0);
  b->rows.i1 = spindle__min(b->rows.i1, a->rows.i1);
  b->rows.dmin = spindle__max(b->rows.dmin, a->rows.dmin);
  b->rows.dmax = spindle__min(b->rows.dmax, a->rows.dmax);
  b->rolled |= a->rolled;
  b->j0 = spindle__max(b->j0, b->rows.i0 - b->rows.dmax);
  b->j1 = spindle__min(b->j1, b->rows.i1 - b->rows.dmin);
  return b->j0 < b->j1 && b->rows.i0 < b->rows.i1 && b->rows.dmin <= b->rows.dmax;
}

/* A loop: a copy of structs has all of it in registers, which Hopper's producer has not. */
SPINDLE__SHARED void spindle__copy_region(spindle__region *to, const spindle__region *from) {
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
  for (size_t at = 0; at < sizeof(*to); at += sizeof(int64_t)) memcpy((char *)to + at, (const char *)from + at, sizeof(int64_t));
}

/* room->boxes := every non-empty intersection of a box with a region of room->list. */
SPINDLE__SHARED_CALLED int32_t spindle__intersect(spindle__segment_room *room, int32_t count, int32_t length) {
  int32_t kept = 0;
  for (int32_t b = 0; b < count; b++) spindle__copy_region(&room->old[b], &room->boxes[b]);
  for (int32_t b = 0; b < count; b++)
    for (int32_t a = 0; a < length; a++) {
      spindle__copy_region(&room->boxes[kept], &room->old[b]);
      kept += spindle__region_cut(&room->boxes[kept], &room->list[a]);
    }
  return kept;
}

/* At most 24 boxes: 4 pieces of rows (two chunks each of DCA, chunk mask, S2), each row in at most 3 regions of its remap and 2
 * of its window. */
SPINDLE__SHARED int32_t spindle__boxes(const spindle_position *p, int64_t n, int32_t shifted, int64_t i0, int64_t i1,
                                       int64_t key_lo, int64_t key_hi, spindle__segment_room *room) {
  spindle__region *boxes = room->boxes, *list = room->list;
  int32_t count = spindle__remap_regions(p, i0, i1, boxes);
  list[0] = spindle__region_all(i0, i1, spindle__map_identity(), spindle__map_identity());
  list[0].j0 = key_lo;
  list[0].j1 = key_hi;
  count = spindle__intersect(room, count, 1);
  count = spindle__intersect(room, count, spindle__s2_regions(p, n, shifted, i0, i1, list));
  for (int32_t b = 0; b < count; b++) { /* causality, after S2 has said which keys are rolled to the front */
    int64_t ahead = p->not_causal ? (p->window_right ? p->window_right - 1 : SPINDLE__FAR) : 0;
    if (!boxes[b].rolled) boxes[b].rows.dmin = spindle__max(boxes[b].rows.dmin, -ahead);
  }
  count = spindle__intersect(room, count, spindle__chunk_regions(p->chunk, 0, i0, i1, list));
  return spindle__intersect(room, count, spindle__window_regions(p, i0, i1, list));
}

/* ---- Merging ---- */

/* Adds a box's rows, over keys [j0, j1), to a segment of the same keys and key map that has room and none of these rows; else to
 * a new one. 0 if there is no room left at all. */
SPINDLE__SHARED int spindle__segment_add(spindle__segment *out, int32_t *count, const spindle__region *box, int64_t j0,
                                         int64_t j1) {
  int32_t s = 0;
  for (; s < *count; s++) {
    int fits = out[s].j0 == j0 && out[s].j1 == j1 && spindle__map_equal(&out[s].k_map, &box->k_map) &&
               out[s].num_groups < SPINDLE__MAX_GROUPS;
    for (int32_t g = 0; fits && g < out[s].num_groups; g++)
      fits = out[s].group[g].i1 <= box->rows.i0 || box->rows.i1 <= out[s].group[g].i0;
    if (fits) break;
  }
  if (s == *count) {
    if (s == SPINDLE__MAX_SEGMENTS) return 0;
    out[s].j0 = j0;
    out[s].j1 = j1;
    out[s].k_map = box->k_map;
    out[s].num_groups = 0;
    ++*count;
  }
  out[s].group[out[s].num_groups++] = box->rows;
  return 1;
}

/* Cuts every box at the ends of the others with its key map and different rows, and collects what then covers the same keys. -1:
 * no room. */
SPINDLE__SHARED int32_t spindle__merge(const spindle__region *boxes, int32_t count, spindle__segment *out) {
  int32_t made = 0;
  for (int32_t b = 0; b < count; b++) {
    int64_t j0 = boxes[b].j0;
    while (j0 < boxes[b].j1) {
      int64_t j1 = boxes[b].j1;
      for (int32_t o = 0; o < count; o++) {
        int disjoint = boxes[o].rows.i1 <= boxes[b].rows.i0 || boxes[b].rows.i1 <= boxes[o].rows.i0;
        if (!disjoint || !spindle__map_equal(&boxes[o].k_map, &boxes[b].k_map)) continue;
        if (boxes[o].j0 > j0) j1 = spindle__min(j1, boxes[o].j0);
        if (boxes[o].j1 > j0) j1 = spindle__min(j1, boxes[o].j1);
      }
      if (!spindle__segment_add(out, &made, &boxes[b], j0, j1)) return -1;
      j0 = j1;
    }
  }
  return made;
}

/* ---- What backends call ---- */

/* The largest i1 <= i0 + max_rows such that rows [i0, i1) meet at most two chunks each of DCA, of a chunk mask and of S2 (shifted
 * or not). Tiles given to spindle__segments must be cut so. */
SPINDLE__SHARED int64_t spindle__tile_end(const spindle_position *p, int64_t i0, int64_t max_rows) {
  int64_t end = i0 + max_rows, dca = 0;
  if (p->remap == SPINDLE_REMAP_DCA) dca = p->remap_chunk - p->remap_local;
  if (p->remap == SPINDLE_REMAP_DCA_PAPER) dca = p->remap_chunk;
  if (dca) end = spindle__min(end, (spindle__floor_div(i0, dca) + 2) * dca);
  if (p->chunk) end = spindle__min(end, (spindle__floor_div(i0, p->chunk) + 2) * p->chunk);
  if (p->s2_group) {
    int64_t half = p->s2_group / 2;
    end = spindle__min(end, (spindle__floor_div(i0, p->s2_group) + 2) * p->s2_group);
    end = spindle__min(end, (spindle__floor_div(i0 + half, p->s2_group) + 2) * p->s2_group - half);
  }
  return end;
}

/* Writes the segments of rows [i0, i1) over keys of indices [key_lo, key_hi) and returns their number. n: the request's, for S2
 * with wrap. shifted: heads >= Hq / 2, for S2. */
SPINDLE__SHARED_CALLED int32_t spindle__segments_in(spindle__segment_room *room, const spindle_position *p, int64_t n,
                                                    int32_t shifted, int64_t i0, int64_t i1, int64_t key_lo, int64_t key_hi,
                                                    spindle__segment *out) {
  int32_t count = spindle__boxes(p, n, shifted, i0, i1, key_lo, key_hi, room);
  int32_t made = spindle__merge(room->boxes, count, out);
  if (made >= 0) return made;
  for (int32_t b = 0; b < count; b++) { /* merging only saves walks: without space for it every box is a segment */
    out[b].j0 = room->boxes[b].j0;
    out[b].j1 = room->boxes[b].j1;
    out[b].k_map = room->boxes[b].k_map;
    out[b].num_groups = 1;
    out[b].group[0] = room->boxes[b].rows;
  }
  return count;
}

/* The same with room on the stack, for the host. */
SPINDLE__SHARED int32_t spindle__segments(const spindle_position *p, int64_t n, int32_t shifted, int64_t i0, int64_t i1,
                                          int64_t key_lo, int64_t key_hi, spindle__segment *out) {
  spindle__segment_room room;
  return spindle__segments_in(&room, p, n, shifted, i0, i1, key_lo, key_hi, out);
}

/* 1 if every row of the tile [i0, i1) sees every key of [j0, j1) through this segment: no mask is needed there. */
SPINDLE__SHARED int spindle__segment_is_full(const spindle__segment *s, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  int64_t rows = 0;
  for (int32_t g = 0; g < s->num_groups; g++) {
    const spindle__row_group *r = &s->group[g];
    if (r->i0 - (j1 - 1) < r->dmin || r->i1 - 1 - j0 > r->dmax) return 0;
    rows += r->i1 - r->i0; /* disjoint and within the tile */
  }
  return rows == i1 - i0;
}

/* The most segments that a tile cut by spindle__tile_end can have. A remap alone: none 1; ReRoPE, Leaky ReRoPE, Self-Extend,
 * StreamingLLM, LM-Infinite 2; DCA 4 (the chunks of keys around a border), and up to 2 more where a left window has an edge per
 * chunk of rows. Sinks beside a window double it. All that as often as a chunk mask and S2 cut the rows: a border each, and two
 * for the keys rolled to the front. */
SPINDLE__SHARED int32_t spindle__segment_bound(const spindle_position *p) {
  int dca = p->remap == SPINDLE_REMAP_DCA || p->remap == SPINDLE_REMAP_DCA_PAPER;
  int32_t bound = p->remap == SPINDLE_REMAP_NONE ? 1 : !dca ? 2 : p->window_left ? 6 : 4;
  int32_t pieces = 1;
  if (p->window_left && p->sink_tokens) bound *= 2;
  if (p->chunk) pieces++;
  if (p->s2_group) pieces += p->s2_wrap ? 3 : 1;
  return (int32_t)spindle__min(bound * pieces, SPINDLE__MAX_SEGMENTS);
}

#endif
