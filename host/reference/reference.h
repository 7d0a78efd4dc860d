/* The reference backend: the definitions of the methods, read from the papers once more and evaluated in float64, one (i, j) pair
 * at a time. It is what every other backend is compared with, so it shares no code with them: only the structs of the library's
 * objects and the clamping of a request's scalars are common. Slow on purpose wherever speed would cost clarity. */
#ifndef SPINDLE_HOST_REFERENCE_H
#define SPINDLE_HOST_REFERENCE_H

#include "../internal.h"

/* ---- Rules (frequencies.c) ---- */

/* A rule at one n. */
typedef struct spindle__ref_rope {
  int32_t num_pairs;
  double w[SPINDLE__MAX_PAIRS];         /* radians per token */
  double log_decay[SPINDLE__MAX_PAIRS]; /* xPos: ln(zeta_t) / scale_base, per token of distance; else 0 */
  bool decays;
  double attention_factor;     /* A */
  double softmax_scale_factor; /* on the whole score */
} spindle__ref_rope;

/* p with its list pointers set; fields left 0 mean what the public header says. d is the rotary dim. */
void spindle__ref_rope_at(const spindle_position *p, int32_t d, int64_t n, spindle__ref_rope *rope);
/* The same for a slot of a position table, whose lists lie in the slot. */
void spindle__ref_rope_of_slot(const spindle__slot *slot, int32_t d, int64_t n, spindle__ref_rope *rope);

/* ---- Visibility and relative positions (relative.c) ---- */

/* A position or a difference of positions, hi + lo: leaky ReRoPE's thirds at 2^40 do not fit one double. */
typedef struct spindle__ref_offset {
  double hi, lo;
} spindle__ref_offset;

/* False where query index i does not see key index j; else the difference of positions at which it scores it. */
bool spindle__ref_relative(const spindle_position *p, bool shifted_heads, int64_t n, int64_t i, int64_t j,
                           spindle__ref_offset *relative);
/* cos and sin of offset * w. */
void spindle__ref_cos_sin(spindle__ref_offset offset, double w, double *c, double *s);

/* ---- Numbers in memory (storage.c) ---- */

size_t spindle__ref_element_bytes(int32_t dtype);
double spindle__ref_load(int32_t dtype, const void *data, int64_t element);
/* Rounds to nearest, ties to even; F8E4M3 saturates at +-448. */
void spindle__ref_store(int32_t dtype, void *data, int64_t element, double value);

/* The keys of request number r in the order of its storage. */
typedef struct spindle__ref_keys {
  const spindle_batch *batch;
  const spindle__request *request;
  int64_t first_entry, end_entry; /* paged: the request's part of the page table */
  int64_t entry;
  int64_t remaining;   /* keys of kv_len not yet given out */
  int64_t offset, end; /* valid slots left in `entry`; dense: key numbers */
} spindle__ref_keys;

typedef struct spindle__ref_key {
  int64_t index;
  int64_t page, row; /* in the pool; dense: batch row and row in it */
} spindle__ref_key;

spindle__ref_keys spindle__ref_keys_of(const spindle_batch *batch, const spindle__request *request, int32_t r);
bool spindle__ref_next_key(spindle__ref_keys *keys, spindle__ref_key *key);

/* Channels (first[t], second[t]) are pair t; the others pass. */
typedef struct spindle__ref_channels {
  int32_t num_pairs, num_plain;
  int32_t first[SPINDLE__MAX_PAIRS], second[SPINDLE__MAX_PAIRS];
  int32_t plain[SPINDLE__MAX_HEAD_DIM];
} spindle__ref_channels;

spindle__ref_channels spindle__ref_channels_of(const spindle_shape *shape);

/* ---- Calls (attention.c, cache.c) ---- */

/* One prepared request: the plan's state is an array of these, so that a later spindle_positions_set cannot reach it. */
typedef struct spindle__ref_request {
  spindle__request request;
  spindle_position position; /* without lists: `rope` is what they came to */
  spindle__ref_rope rope;
} spindle__ref_request;

size_t spindle__ref_scratch_bytes(const spindle_plan *plan);
spindle_status spindle__ref_attention(const spindle_plan *plan, const spindle_attention_args *args, spindle_stream stream);
spindle_status spindle__ref_append(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                                   const spindle_append_args *args, spindle_stream stream);
spindle_status spindle__ref_rotate(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                                   const spindle_rotate_args *args, spindle_stream stream);
spindle_status spindle__ref_combine(spindle_context *context, const spindle_combine_args *args, bool scale_only,
                                    spindle_stream stream);

#endif
