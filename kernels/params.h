/* The plain data that prepare makes and kernels read: nothing here owns memory or holds a host pointer. */
#ifndef SPINDLE_KERNELS_PARAMS_H
#define SPINDLE_KERNELS_PARAMS_H

#include "common.h"

/* A rule evaluated at one n, for one shape. */
typedef struct spindle__resolved {
  double attention_factor;     /* A, on the rotated channels of Q and of K */
  double softmax_scale_factor; /* on the whole score */
  double scale_base;           /* xPos: pair t of the product times zeta_t^(dist / scale_base); 0: no decay */
  int32_t num_pairs;           /* rotary_dim / 2 */
  int32_t rotates;             /* 0: every step is 0 (NoPE) */
  /* Phases in 2^-64 turns: pair t at position p has phase p * step[t] mod 2^64. A map that scales by 1/k has steps of its own,
   * and, on the query's side, an offset: m * scaled_step[t] + scaled_offset[t], m the integer before the scaling. */
  uint64_t step[SPINDLE__MAX_PAIRS];
  uint64_t scaled_step[SPINDLE__MAX_PAIRS];
  uint64_t scaled_offset[SPINDLE__MAX_PAIRS];
} spindle__resolved;

/* P(x) = min(((x mod modulus) div group) * a + offset, cap), as a position or, for scaled maps, as the multiplicand m above. */
typedef struct spindle__map {
  int64_t modulus; /* 0: none */
  int64_t group;   /* >= 1 */
  int64_t a;       /* 0 or 1 */
  int64_t offset;
  int64_t cap;    /* INT64_MAX: none */
  int32_t scaled; /* 0: steps; 1: scaled_step; 2: scaled_step and scaled_offset */
} spindle__map;

/* Where the map divides, x < 0 is taken as 0: only rows before the first key have such indices, and they see nothing. */
SPINDLE__SHARED int64_t spindle__map_at(const spindle__map *m, int64_t x) {
  int64_t rest;
  if (m->modulus) {
    spindle__divide(spindle__max(x, 0), m->modulus, &rest);
    x = rest;
  }
  if (m->group > 1) x = spindle__divide(spindle__max(x, 0), m->group, &rest);
  return spindle__min(x * m->a + m->offset, m->cap);
}

SPINDLE__SHARED int spindle__map_equal(const spindle__map *x, const spindle__map *y) {
  return x->modulus == y->modulus && x->group == y->group && x->a == y->a && x->offset == y->offset && x->cap == y->cap &&
         x->scaled == y->scaled;
}

/* One slot of a position table: the descriptor with its defaults filled in, its lists, and what it comes to if it is static. */
typedef struct spindle__slot {
  spindle_position position; /* the list pointers are NULL: the lists are below */
  double inv_freq[SPINDLE__MAX_PAIRS];
  double short_factor[SPINDLE__MAX_PAIRS];
  double long_factor[SPINDLE__MAX_PAIRS];
  int32_t length_dependent; /* 1: `resolved` is made anew by every prepare */
  spindle__resolved resolved;
} spindle__slot;

/* One request of a prepared step: batch arrays clamped to bounds, defaults filled in. q_len = 0: unused. */
typedef struct spindle__request {
  int32_t q_begin, q_len, kv_len;
  int32_t slot;
  int32_t kv_begin, kv_batch; /* dense */
  int64_t q_index;            /* index of the first query row */
  int64_t kv_index;           /* index of the first key, without page_index */
  int64_t n;
  int64_t key_lo, key_hi; /* all keys present have indices in [key_lo, key_hi) */
  int64_t first_entry;    /* paged: first table entry, and how many hold the kv_len keys */
  int32_t num_entries;
  int32_t last_end; /* end of the valid slots in the last entry: where the kv_len keys are used up */
} spindle__request;

#endif
