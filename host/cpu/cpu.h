/* The CPU backend, inside: what prepare leaves in the plan state, what a thread has in scratch, and who does what.
 *
 *     backend.c        the table
 *     plan.c           sizes of both workspaces
 *     prepare.c        requests, rules at their n, work list
 *     attention.c      items over threads; merging of splits
 *     item.c           one item: segments -> key tiles -> kernels
 *     keys.c           key tiles: where their rows lie, who sees them, their bias
 *     query.c          units (heads of one KV head) of an item; packing of query rows for a segment
 *     finish.c         rows of O and LSE from sums; merging of partial sums
 *     append_rotate.c  append and rotate
 *     combine.c        combine
 *     isa/             inner loops, compiled for each instruction set; kernels.h is their table, dispatch.c chooses
 */
#ifndef SPINDLE_HOST_CPU_CPU_H
#define SPINDLE_HOST_CPU_CPU_H

#include "../../kernels/schedule.h"
#include "../internal.h"
#include "kernels.h"

/* Up to so many rows of a unit, a transpose of the keys costs more than it saves. */
#define SPINDLE__CPU_FEW_ROWS 8
/* Keys of a tile lie within so many indices where there is a bias, so that its table of distances is short. */
#define SPINDLE__CPU_BIAS_SPAN 1024
#define SPINDLE__CPU_LOG2_E    1.4426950408889634
#define SPINDLE__CPU_LN_2      0.6931471805599453

/* ---- Plan state ---- */

typedef struct spindle__cpu_request {
  int32_t number; /* in the batch */
  spindle__request request;
  spindle__work work;
  spindle_position position;
  spindle__resolved resolved;
} spindle__cpu_request;

typedef struct spindle__cpu_state {
  int32_t num_requests; /* used ones, packed to the front */
  int32_t num_tiles;
  int64_t num_items;
  int64_t num_partials;
} spindle__cpu_state; /* then requests[max_requests], tiles[max_q_rows + max_requests] */

/* ---- Workspaces: byte offsets, multiples of 256 ---- */

typedef struct spindle__cpu_layout {
  spindle__schedule schedule;
  spindle__cpu_channels channels;
  int32_t o_stride;    /* floats of a row of O in scratch */
  int32_t bias_stride; /* floats of one head's bias table */
  /* State. */
  size_t requests, tiles, state_bytes;
  /* Scratch of one thread. */
  size_t q, k, v, s, o, m, l, whole_o, whole_m, whole_l, c, sn, lo, hi, bias, thread_bytes;
  /* Scratch of all: after the threads', rows of partial results of o_stride floats, their maxima and their sums. */
  int64_t max_partials;
  size_t partial_o, partial_m, partial_l, scratch_bytes;
} spindle__cpu_layout;

void spindle__cpu_layout_of(const spindle_plan *plan, spindle__cpu_layout *layout);
spindle_status spindle__cpu_plan(spindle_plan *plan);
spindle_status spindle__cpu_prepare(const spindle_plan *plan, const spindle_positions *positions, const spindle_batch *batch,
                                    void *state, spindle_stream stream);

/* ---- A run ---- */

typedef struct spindle__cpu_run {
  const spindle_plan *plan;
  const spindle_attention_args *args;
  const spindle__cpu_kernels *kernels;
  spindle__cpu_layout layout;
  const spindle__cpu_state *state;
  const spindle__cpu_request *requests;
  const int32_t *tiles;
  float *partial_o, *partial_m, *partial_l;
} spindle__cpu_run;

/* Running sums of packed rows: O not yet divided by l, maximum m in units of log 2, l = sum of 2^(score - m). */
typedef struct spindle__cpu_sums {
  float *o, *m, *l;
} spindle__cpu_sums;

/* The query heads of an item that read one KV head. */
typedef struct spindle__cpu_unit {
  int32_t kv_head, h0, heads;
  int32_t base; /* first packed row */
} spindle__cpu_unit;

/* Where keys of one tile lie; offsets are in elements, of head 0. */
typedef struct spindle__cpu_keys {
  int32_t count;
  int32_t contiguous;
  int64_t index[SPINDLE__CPU_TILE_KEYS];
  int64_t k_offset[SPINDLE__CPU_TILE_KEYS], v_offset[SPINDLE__CPU_TILE_KEYS];
  int32_t column[SPINDLE__CPU_TILE_KEYS]; /* index less the first's, where there is a bias and they are not contiguous */
} spindle__cpu_keys;

typedef struct spindle__cpu_key_reader {
  spindle__key_cursor cursor;
  spindle__key_run run; /* what is left of the last run */
  int64_t span;         /* most indices that a tile covers */
  const spindle_cache *k, *v;
} spindle__cpu_key_reader;

/* One item in the hands of one thread. */
typedef struct spindle__cpu_task {
  const spindle__cpu_run *run;
  const spindle__cpu_request *r;
  spindle__item item;
  int64_t i0, i1; /* indices of its rows */
  int32_t num_packed;
  bool few;                      /* rows of a unit: keys are not transposed for them */
  int32_t q_stride;              /* floats of a packed row of Q */
  spindle__cpu_sums sums, whole; /* whole: of the splits so far */
  float *q, *k, *v, *s, *c, *sn, *bias;
  int32_t *lo, *hi;
  double rate[SPINDLE__MAX_PAIRS]; /* xPos: log2 of what a pair decays by per token of distance */
  int64_t xpos_keys;               /* keys that share one centre of decay; 0: no decay */
  spindle__cpu_keys keys;          /* of the tile at work */
} spindle__cpu_task;

spindle_status spindle__cpu_attention(const spindle_plan *plan, const spindle_attention_args *args, spindle_stream stream);
void spindle__cpu_run_item(const spindle__cpu_run *run, const spindle__cpu_request *r, const spindle__item *item,
                           char *thread_scratch);

/* The item's units in turn: false after the last. Start with a zeroed unit. */
bool spindle__cpu_next_unit(const spindle__cpu_task *t, spindle__cpu_unit *u);

spindle__cpu_key_reader spindle__cpu_read_keys(const spindle__cpu_task *t, int64_t j0, int64_t j1);
/* false at the end. */
bool spindle__cpu_next_tile(spindle__cpu_key_reader *reader, spindle__cpu_keys *keys);
/* Which columns of task->keys each row sees through the segment, into task->lo and hi; false if none does. */
bool spindle__cpu_visible(spindle__cpu_task *t, const spindle__segment *segment);
/* Fills the task's bias table for a unit and the tile in task->keys. */
void spindle__cpu_fill_bias(spindle__cpu_task *t, const spindle__cpu_unit *u);

/* Packs all rows that the segment has, decay centred at index `centre`. */
void spindle__cpu_pack_queries(spindle__cpu_task *t, const spindle__segment *segment, int64_t centre);
/* Steps and offsets of a map. NULL steps: the map does not rotate. */
void spindle__cpu_phases(const spindle__resolved *resolved, const spindle__map *map, const uint64_t **step,
                         const uint64_t **offset);

void spindle__cpu_clear(const spindle__cpu_task *t, spindle__cpu_sums *sums);
/* into += from, row by row. */
void spindle__cpu_merge(spindle__cpu_sums *into, const spindle__cpu_sums *from, int64_t rows, int32_t o_stride);
/* Writes one row of O and LSE. */
void spindle__cpu_finish_row(const spindle__cpu_run *run, const spindle__cpu_request *r, int32_t row, int32_t head, float *o,
                             float m, float l);

/* ---- The other calls ---- */

spindle_status spindle__cpu_append(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                                   const spindle_append_args *args, spindle_stream stream);
spindle_status spindle__cpu_rotate(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                                   const spindle_rotate_args *args, spindle_stream stream);
spindle_status spindle__cpu_combine(spindle_context *context, const spindle_combine_args *args, bool scale_only,
                                    spindle_stream stream);

spindle__cpu_channels spindle__cpu_channels_of(const spindle_shape *shape);

#endif
