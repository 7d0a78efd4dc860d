/* The CUDA backend, inside. This folder alone sees the CUDA runtime and kernels/launch.h.
 *
 *     backend.c    the table; which devices serve
 *     device.c     memory, streams, events
 *     errors.c     the current device, and what a cudaError_t is as a status
 *     plan.c       sizes of both workspaces, and where things lie in them
 *     attention.c  prepare and attention
 *     cache.c      append, rotate, combine
 *
 * A context is one device. Every call makes that device current for its duration, and leaves the caller's as it was. Calls that
 * run kernels launch and do nothing else: no allocation, no copy, no waiting; so all of them can be captured. */
#ifndef SPINDLE_HOST_CUDA_CUDA_H
#define SPINDLE_HOST_CUDA_CUDA_H

#include <cuda_runtime_api.h>

#include "../../kernels/launch.h"
#include "../internal.h"

#define SPINDLE__CUDA_LEAST_ARCH 80

/* ---- Calls ---- */

/* Makes the context's device current; *before is the one that was. Drops the error that another's failed call may have left in
 * the thread, which a launch would report as its own. */
spindle_status spindle__cuda_enter(const spindle_context *context, int *before);
/* Back to that device. The status of `error`, which `call` returned. */
spindle_status spindle__cuda_leave(int before, cudaError_t error, const char *call);
spindle_status spindle__cuda_fail(cudaError_t error, const char *call);

/* ---- Workspaces ---- */

/* Offsets in bytes from the start of the plan's state, and of scratch. */
typedef struct spindle__cuda_layout {
  spindle__schedule schedule;
  int32_t max_tiles, max_segments;
  size_t totals, requests, tiles, tile_segments, segments, rooms, spilled, phases, offsets;
  size_t state_bytes;

  int32_t o_stride, rotated_stride;
  int64_t max_partials;
  int64_t max_rotated_rows; /* of one KV head; 0: no keys are pre-rotated */
  int32_t pass_heads;       /* KV heads whose pre-rotated keys lie in scratch at a time */
  size_t rotated, partial_o, partial_ml, whole;
  size_t scratch_bytes;
} spindle__cuda_layout;

void spindle__cuda_layout_of(const spindle_plan *plan, spindle__cuda_layout *layout);
spindle__state spindle__cuda_state_of(const spindle__cuda_layout *layout, void *state);

/* ---- The table's entries ---- */

extern const spindle__device spindle__cuda_device;

spindle_status spindle__cuda_plan(spindle_plan *plan);
spindle_status spindle__cuda_prepare(const spindle_plan *plan, const spindle_positions *positions, const spindle_batch *batch,
                                     void *state, spindle_stream stream);
spindle_status spindle__cuda_attention(const spindle_plan *plan, const spindle_attention_args *args, spindle_stream stream);
spindle_status spindle__cuda_append(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                                    const spindle_append_args *args, spindle_stream stream);
spindle_status spindle__cuda_rotate(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                                    const spindle_rotate_args *args, spindle_stream stream);
spindle_status spindle__cuda_combine(spindle_context *context, const spindle_combine_args *args, bool scale_only,
                                     spindle_stream stream);

#endif
