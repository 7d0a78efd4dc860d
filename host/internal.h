/* Inside host/: objects, the backends' table of functions, and how errors are said. */
#ifndef SPINDLE_HOST_INTERNAL_H
#define SPINDLE_HOST_INTERNAL_H

#include <stdbool.h>

#include "../kernels/params.h"

/* ---- Errors ---- */

/* Sets the thread's message and returns status, so that callers can `return spindle__fail(...)`. */
spindle_status spindle__fail(spindle_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define SPINDLE__TRY(call)                       \
  do {                                           \
    spindle_status try_status = (call);          \
    if (try_status != SPINDLE_OK) return try_status; \
  } while (0)

/* ---- Objects ---- */

typedef struct spindle__backend spindle__backend;

struct spindle_context {
  const spindle__backend *backend;
  int32_t backend_kind; /* SPINDLE_BACKEND_*, not AUTO */
  int32_t device;
  int32_t num_threads; /* >= 1 */
};

struct spindle_positions {
  spindle_context *context;
  spindle_shape shape; /* defaults filled in */
  int32_t capacity;
  spindle__slot *slots; /* device memory [capacity] */
  /* What any slot was ever set to, for checks that the host makes before a launch. */
  bool any_length_dependent;
  bool any_xpos;
  bool any_ssmax;
};

struct spindle_plan {
  spindle_context *context;
  spindle_shape shape;           /* defaults filled in */
  spindle_plan_options options;  /* defaults filled in */
  size_t state_bytes, scratch_bytes;
  /* Since the last prepare; state NULL before the first. */
  spindle_batch batch;
  void *state;
  bool needs_ssmax_weights;
};

/* ---- Backends ---- */

/* Arguments have been validated and their defaults (strides too) filled in when these are called. A function that is NULL does not exist on
 * the backend: the caller reports SPINDLE_UNSUPPORTED. */
struct spindle__backend {
  const char *name;
  spindle_status (*describe)(const spindle_context *context, char *name, size_t bytes);

  /* plan->shape and plan->options in, plan->state_bytes and plan->scratch_bytes out (multiples of 256). */
  spindle_status (*plan)(spindle_plan *plan);
  /* state: state_bytes, to be filled for `attention`. plan->batch is this batch. */
  spindle_status (*prepare)(const spindle_plan *plan, const spindle_positions *positions, const spindle_batch *batch, void *state,
                            spindle_stream stream);
  spindle_status (*attention)(const spindle_plan *plan, const spindle_attention_args *args, spindle_stream stream);
  spindle_status (*append)(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                           const spindle_append_args *args, spindle_stream stream);
  spindle_status (*rotate)(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                           const spindle_rotate_args *args, spindle_stream stream);
  /* scale_only: spindle_combine_scale. */
  spindle_status (*combine)(spindle_context *context, const spindle_combine_args *args, bool scale_only, spindle_stream stream);

  spindle_status (*alloc)(spindle_context *context, void **memory, size_t bytes);
  void (*release)(spindle_context *context, void *memory);
  spindle_status (*copy)(spindle_context *context, void *dst, const void *src, size_t bytes, spindle_stream stream);
  spindle_status (*stream_create)(spindle_context *context, spindle_stream *stream);
  spindle_status (*stream_sync)(spindle_context *context, spindle_stream stream);
  void (*stream_destroy)(spindle_context *context, spindle_stream stream);
  spindle_status (*event_create)(spindle_context *context, spindle_event **event);
  spindle_status (*event_record)(spindle_context *context, spindle_event *event, spindle_stream stream);
  spindle_status (*event_elapsed)(spindle_context *context, spindle_event *begin, spindle_event *end, double *milliseconds);
  void (*event_destroy)(spindle_context *context, spindle_event *event);
};

extern const spindle__backend spindle__cpu_backend;
extern const spindle__backend spindle__reference_backend;

/* ---- Shared by the backends that run on the host ---- */

/* Entry r of the batch, clamped to the plan's bounds and the pool's extent, defaults filled in. */
void spindle__batch_request(const spindle_plan *plan, const spindle_positions *positions, const spindle_batch *batch, int32_t r,
                            spindle__request *out);

/* Keys in consecutive rows of storage with consecutive indices; at most a page long, if paged. */
typedef struct spindle__key_run {
  int64_t index; /* of the first key */
  int32_t count;
  int32_t page; /* clamped to the pool; dense: batch row */
  int32_t row;  /* of the first key in the page; dense: in the batch row */
} spindle__key_run;

/* Walks the keys of a request whose indices lie in [j0, j1), in ascending order of index. */
typedef struct spindle__key_cursor {
  const spindle_batch *batch;
  const spindle__request *request;
  int64_t j1;
  int64_t next; /* slot number: entry * page_size + offset; dense: key number */
} spindle__key_cursor;

/* O(log entries). */
spindle__key_cursor spindle__keys_in(const spindle_batch *batch, const spindle__request *request, int64_t j0, int64_t j1);
/* false at the end. */
bool spindle__keys_next(spindle__key_cursor *cursor, spindle__key_run *run);

#endif
