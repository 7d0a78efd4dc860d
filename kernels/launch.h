/* What host/ sees of the kernels: functions that launch them, and the plain data they take. All return a cudaError_t; nothing
 * here allocates or synchronises. The current device is the stream's. */
#ifndef SPINDLE_KERNELS_LAUNCH_H
#define SPINDLE_KERNELS_LAUNCH_H

#include "requests.h"
#include "state.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Loading ----
 *
 * The runtime loads a kernel when it is first used, which a capture may not be. These load those that every context has;
 * attention's are loaded when they are found. On the current device. */

int spindle__load_prepare(void);
int spindle__load_rotate(void);
int spindle__load_append(void);
int spindle__load_combine(void);

/* ---- Prepare: one launch of one block ---- */

typedef struct spindle__prepare_params {
  spindle_batch batch;
  spindle__bounds bounds;
  spindle__schedule schedule;
  const spindle__slot *slots;
  int32_t rotary_dim;
  int32_t raw_keys;
  int32_t rotate_when;                /* SPINDLE_SCHEDULE_* */
  int32_t split_keys;                 /* of the plan; 0: as fits */
  int32_t blocks[SPINDLE__NUM_LISTS]; /* that run at a time, which splitting is to fill. Of decode 0: all are prefill's */
  int32_t tile_keys;                  /* splits are multiples of it */
  int64_t max_partials;               /* rows of partial results that scratch holds */
  int64_t max_rotated_rows;           /* pre-rotated key rows that scratch holds for each KV head */
  int32_t max_tiles, max_segments;
  spindle__state state;
} spindle__prepare_params;

int spindle__launch_prepare(const spindle__prepare_params *params, spindle_stream stream);

/* ---- Attention ---- */

typedef struct spindle__attention_params {
  spindle_shape shape;
  spindle_batch batch;
  spindle_attention_args args; /* strides filled in */
  spindle__schedule schedule;
  spindle__state state;
  int32_t with_sinks;       /* 0: args.sink_logits are left to spindle_combine */
  int32_t kv_begin, kv_end; /* KV heads of this launch; pre-rotated keys are those of kv_begin .. kv_end - 1 */
  void *rotated;            /* pre-rotated keys [kv_end - kv_begin][rotated_rows][rotated_stride], elements of q_dtype */
  int64_t rotated_rows;
  int32_t rotated_stride;
  float *partial_o;  /* [partials][o_stride], not divided by l */
  float *partial_ml; /* [partials][2]: maximum in units of log 2, sum of 2^(score - maximum) */
  float *whole;      /* [blocks][item_rows][o_stride + 8]: sums of the splits that a block has walked so far */
  int32_t o_stride;
  int32_t list;   /* SPINDLE__LIST_*, set by the launch */
  int32_t blocks; /* of it */
} spindle__attention_params;

/* The kernel that serves a shape on the current device; zeros if none does. */
typedef struct spindle__kernel_info {
  int32_t item_rows; /* packed rows of an item; decode: 0 */
  int32_t tile_keys; /* likewise */
  int32_t head_dim;  /* O's rows in partial results are at least as long */
  int32_t blocks;    /* that run at a time on the device */
} spindle__kernel_info;

/* Loads the kernels that the shape needs, so that no capture has to. */
int spindle__prefill_find(const spindle_shape *shape, spindle__kernel_info *info);
int spindle__launch_prefill(const spindle__attention_params *params, spindle_stream stream);
/* The same for the requests of few rows. */
int spindle__decode_find(const spindle_shape *shape, spindle__kernel_info *info);
int spindle__launch_decode(const spindle__attention_params *params, spindle_stream stream);
/* Rows of requests that were split: O and LSE from their partial results. */
int spindle__launch_merge_splits(const spindle__attention_params *params, spindle_stream stream);

/* ---- Rotation ---- */

/* Pre-rotates the keys of KV heads kv_begin .. kv_end - 1 of every request that prepare chose, into params->rotated. */
int spindle__launch_rotate_keys(const spindle__attention_params *params, spindle_stream stream);

typedef struct spindle__rotate_params {
  spindle_rotate_args args; /* defaults and strides filled in */
  spindle_shape shape;
  const spindle__slot *slots;
  int32_t capacity;
} spindle__rotate_params;

/* spindle_rotate. */
int spindle__launch_rotate(const spindle__rotate_params *params, spindle_stream stream);

/* ---- Cache and partial results ---- */

typedef struct spindle__append_params {
  spindle_append_args args; /* defaults and strides filled in */
  spindle_shape shape;
  const spindle__slot *slots; /* NULL: keys are stored as they come */
  int32_t capacity;
} spindle__append_params;

int spindle__launch_append(const spindle__append_params *params, spindle_stream stream);
/* scale_only: spindle_combine_scale. */
int spindle__launch_combine(const spindle_combine_args *args, int32_t scale_only, spindle_stream stream);

#ifdef __cplusplus
}
#endif

#endif
