/* What prepare leaves on the device for the runs that follow it, as plain data. The host lays it out in the plan's state. */
#ifndef SPINDLE_KERNELS_STATE_H
#define SPINDLE_KERNELS_STATE_H

#include "schedule.h"

/* A request of at least so many packed query rows a KV head (rows x query heads) has its keys rotated once, into scratch, rather
 * than by each item of 128 rows that reads them. At D = 128 the pass takes an H200's multiprocessor some 3400 clk of memory's
 * time for 128 keys; rotation in the loop makes an item's 128 keys take 7500 clk where they take 2048 (counted, not measured). */
#define SPINDLE__PREROTATE_ROWS 256

/* A request of at most so many packed query rows a KV head is decode's, any other prefill's. Each has a list of items. */
#define SPINDLE__DECODE_ROWS 16
enum { SPINDLE__LIST_PREFILL = 0, SPINDLE__LIST_DECODE = 1, SPINDLE__NUM_LISTS = 2 };

/* The frequency of a pair: what one token adds to its phase (2^-64 turns), and that step's cos and sin. */
typedef struct spindle__phase {
  uint64_t step;
  float cos_step, sin_step;
} spindle__phase;

typedef struct spindle__prepared {
  int32_t number;  /* in the batch */
  int32_t rotates; /* 0: no pair does (NoPE) */
  spindle__request request;
  spindle__work work; /* first_item: in the request's list */
  int32_t list;
  int64_t items_before[SPINDLE__NUM_LISTS]; /* of the requests before it, in each list */
  spindle_position position;                /* lists are NULL */
  double attention_factor, softmax_scale_factor;
  double scale_base;  /* xPos, else 0 */
  int64_t rotated_at; /* row in scratch of its first pre-rotated key; -1: keys are rotated while they are read */
  int64_t num_slots;  /* key rows, or entries x page_size: rows of one pre-rotated copy */
  int64_t first_rotate_block;
  int64_t first_segment; /* where its tiles' segments are in the pool, or would be: spindle__tile knows */
} spindle__prepared;

/* The segments of a tile, unshifted and shifted heads (S2). count -1: the pool is full, so the run makes them itself. */
typedef struct spindle__tile {
  int32_t first[2], count[2];
  int64_t keys; /* that it walks, by the longer of the two lists; unknown if count is -1 */
} spindle__tile;

typedef struct spindle__totals {
  int32_t num_requests; /* used ones, packed to the front */
  int32_t num_tiles, num_segments;
  int64_t num_items[SPINDLE__NUM_LISTS], num_partials, num_rotated_rows;
  int64_t num_rotate_blocks; /* of SPINDLE__ROTATE_BLOCK slots, all copies */
  uint32_t
      items_taken[SPINDLE__NUM_LISTS]; /* by the run at work; 0 between runs. Runs of one state are therefore on one stream */
} spindle__totals;

#define SPINDLE__ROTATE_BLOCK    64
#define SPINDLE__PREPARE_THREADS 256
/* Keys are split as fits where there are fewer items than so many times the blocks that run at a time, and into no more: blocks x
 * this x item_rows partial results always suffice. The more, the less blocks wait for the last; decode's partial results are
 * small, and its requests differ most. */
SPINDLE__SHARED int32_t spindle__items_per_block(int32_t list) { return list == SPINDLE__LIST_DECODE ? 4 : 2; }

typedef struct spindle__state {
  spindle__totals *totals;
  spindle__prepared *requests;  /* [max_requests] */
  int32_t *tiles;               /* [max_tiles] first rows, as spindle__work says */
  spindle__tile *tile_segments; /* [max_tiles] */
  spindle__segment *segments;   /* [max_segments] */
  /* For tiles whose segments the pool has no room for. Prepare works in the rooms too, one a thread. */
  spindle__segment_room *rooms; /* [max(blocks, SPINDLE__PREPARE_THREADS)] */
  spindle__segment *spilled;    /* [blocks][SPINDLE__MAX_SEGMENTS] */
  spindle__phase *phases;       /* [max_requests][2][rotary_dim / 2] of positions; of positions scaled by 1/k */
  uint64_t *offsets;            /* [max_requests][rotary_dim / 2] of queries at scaled positions (spindle__map) */
} spindle__state;

SPINDLE__SHARED const spindle__phase *spindle__phases_of(const spindle__state *s, int32_t num_pairs, int32_t request,
                                                         int scaled) {
  return s->phases + ((int64_t)request * 2 + (scaled != 0)) * num_pairs;
}

/* ---- Pre-rotated copies: one for each map that the method's keys are seen under ---- */

/* Writes the key maps of the descriptor's segments and returns their number. */
SPINDLE__SHARED int32_t spindle__key_maps(const spindle_position *p, spindle__map *maps) {
  maps[0] = spindle__map_identity();
  switch (p->remap) {
    case SPINDLE_REMAP_REROPE:
    case SPINDLE_REMAP_LM_INFINITE: maps[1] = spindle__map_constant(0); return 2;
    case SPINDLE_REMAP_LEAKY_REROPE: maps[1] = spindle__map_scaled(0); return 2;
    case SPINDLE_REMAP_SELF_EXTEND: maps[1] = spindle__map_grouped(p->remap_group, 0); return 2;
    case SPINDLE_REMAP_DCA: maps[0] = spindle__map_modulo(p->remap_chunk - p->remap_local, 0, INT64_MAX); return 1;
    case SPINDLE_REMAP_DCA_PAPER: maps[0] = spindle__map_modulo(p->remap_chunk, 0, INT64_MAX); return 1;
    default: return 1;
  }
}

/* 1 if a key under this map is read as it lies: position 0, or nothing rotates, and no decay (xPos). */
SPINDLE__SHARED int spindle__map_is_plain(const spindle__prepared *r, const spindle__map *m) {
  return r->scale_base == 0 && (!r->rotates || (m->a == 0 && m->offset == 0 && !m->scaled));
}

/* The copy that holds keys under map m. Its rows start at rotated_at + copy num_slots. Maps that are plain (ReRoPE's far part)
 * are last in the list and have none. */
SPINDLE__SHARED int32_t spindle__key_copy(const spindle__prepared *r, const spindle__map *m) {
  spindle__map maps[2];
  spindle__key_maps(&r->position, maps);
  return spindle__map_equal(m, &maps[0]) ? 0 : 1;
}

SPINDLE__SHARED int32_t spindle__num_key_copies(const spindle__prepared *r) {
  spindle__map maps[2];
  int32_t count = spindle__key_maps(&r->position, maps), copies = 0;
  for (int32_t c = 0; c < count; c++) copies += !spindle__map_is_plain(r, &maps[c]);
  return copies;
}

/* ---- xPos ---- */

/* Under xPos a key is scaled by its pair's zeta^(-(j - centre) / scale_base), a query by the opposite: keys [centre, centre +
 * block) share a centre, so that neither side leaves the range of its type. A pair of the lowest zeta (2/7) grows by at most 2^7
 * over a block. Centres are the multiples of the block, which is a
 * power of 2. */
SPINDLE__SHARED int64_t spindle__decay_block(double scale_base) {
  int64_t block = 2048;
  while (block > 8 && (double)block > 4 * scale_base) block /= 2;
  return block;
}

#endif
