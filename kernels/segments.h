/* From a method to the segments of a query tile: the region algebra.
 *
 * A region is a box: rows x keys x distances, with a map for the query's position and one for the key's. A remap is a list of
 * disjoint regions, and so is every mask. The segments of a tile are the intersections of one region of each list, cut to the tile, shrunk to
 * the keys that their rows can see; boxes that share the key map and whose rows are disjoint become one segment with several row groups, so that no
 * key tile is walked twice under one key map. Every visible (i, j) lies in exactly one group of exactly one segment.
 *
 * Pure integers, no allocation: host and device run the same code.
 *
 * Keys here are indices, not slots: a backend intersects [j0, j1) with the keys that are present.
 */
#ifndef SPINDLE_KERNELS_SEGMENTS_H
#define SPINDLE_KERNELS_SEGMENTS_H

#include "params.h"

#define SPINDLE__FAR ((int64_t)1 << 60) /* beyond every index and distance */
#define SPINDLE__MAX_GROUPS 4           /* row groups of one segment */
#define SPINDLE__MAX_SEGMENTS 48        /* of one tile; spindle__segment_bound says how many a method really needs */

/* Rows [i0, i1) see keys at distances dmin <= i - j <= dmax, and are rotated at q_map(i). */
typedef struct spindle__row_group {
  int64_t i0, i1, dmin, dmax;
  spindle__map q_map;
} spindle__row_group;

typedef struct spindle__segment {
  int64_t j0, j1;
  spindle__map k_map;
  int32_t num_groups;
  spindle__row_group group[SPINDLE__MAX_GROUPS]; /* rows of different groups are disjoint and ascend */
} spindle__segment;

/* The largest i1 <= i0 + max_rows such that the tile of rows [i0, i1) meets at most two chunks (of DCA, of a chunk mask, of S2) of each kind.
 * Tiles given to spindle__segments must be cut so. */
SPINDLE__SHARED int64_t spindle__tile_end(const spindle_position *p, int64_t i0, int64_t max_rows);

/* Writes the segments of rows [i0, i1) over keys of indices [key_lo, key_hi), in ascending order of the first key within a key map,
 * and returns their number (at most SPINDLE__MAX_SEGMENTS). n: the request's, used by S2 with wrap. shifted: heads >= Hq / 2 (S2). */
SPINDLE__SHARED int32_t spindle__segments(const spindle_position *p, int64_t n, int32_t shifted, int64_t i0, int64_t i1, int64_t key_lo,
                                          int64_t key_hi, spindle__segment *out);

/* 1 if every row of the tile [i0, i1) sees every key of [j0, j1) through this segment: no mask is needed there. */
SPINDLE__SHARED int spindle__segment_is_full(const spindle__segment *s, int64_t i0, int64_t i1, int64_t j0, int64_t j1);

/* The most segments that a tile cut by spindle__tile_end can have under this descriptor. */
SPINDLE__SHARED int32_t spindle__segment_bound(const spindle_position *p);

#endif
