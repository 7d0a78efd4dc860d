/* Inside host/: objects, the backends' table of functions, and how errors are said. */
#ifndef SPINDLE_HOST_INTERNAL_H
#define SPINDLE_HOST_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "../kernels/params.h"

/* ---- Errors ---- */

/* Sets the thread's message and returns status, so that callers can `return spindle__fail(...)`. */
spindle_status spindle__fail(spindle_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define SPINDLE__TRY(call)                           \
  do {                                               \
    spindle_status try_status = (call);              \
    if (try_status != SPINDLE_OK) return try_status; \
  } while (0)

/* ---- Objects ---- */

#define SPINDLE__MAX_KINDS 32 /* of rules, remaps or row scales */

typedef struct spindle__slot_kinds {
  uint8_t rope, remap, row_scale;
} spindle__slot_kinds;

typedef struct spindle__backend spindle__backend;

struct spindle_context {
  const spindle__backend *backend;
  int32_t backend_kind; /* SPINDLE_BACKEND_*, not AUTO */
  int32_t device;
  int32_t arch;        /* cuda: 80, 90, ...; else 0 */
  int32_t num_threads; /* >= 1 */
};

struct spindle_positions {
  spindle_context *context;
  spindle_shape shape; /* defaults filled in */
  int32_t capacity;
  spindle__slot *slots; /* device memory [capacity] */
  /* The host's own knowledge of the slots, for what it checks before a launch: of each slot (under `lock`), and how many slots
   * there are of each kind. */
  spindle__slot_kinds *kinds; /* [capacity] */
  pthread_mutex_t lock;
  _Atomic int32_t rope_count[SPINDLE__MAX_KINDS];
  _Atomic int32_t remap_count[SPINDLE__MAX_KINDS];
  _Atomic int32_t row_scale_count[SPINDLE__MAX_KINDS];
};

/* What decides how work is cut. */
typedef struct spindle__kernel {
  int32_t item_rows, tile_keys; /* packed query rows of an item, keys of a step through its keys */
  int32_t head_dim;             /* channels of an output row in scratch */
  int32_t blocks;               /* that run at a time on the device */
  int32_t decode_blocks;        /* of the kernel for few rows; 0: it serves none of this shape */
} spindle__kernel;

struct spindle_plan {
  spindle_context *context;
  spindle_shape shape;          /* defaults filled in */
  spindle_plan_options options; /* defaults filled in */
  size_t state_bytes, scratch_bytes;
  spindle__kernel kernel; /* cuda: the one that serves the shape */
  /* Since the last prepare; state NULL before the first. */
  spindle_batch batch;
  void *state;
  bool uses_ssmax; /* some slot of the table does */
};

/* ---- Checks (the first argument that is wrong is reported; outputs are written on success only) ---- */

/* Copies a caller's descriptor of any version into ours: shorter ones are filled up with 0, longer ones must be 0 beyond. */
spindle_status spindle__read_descriptor(void *dst, size_t dst_size, const void *src, const char *name);

spindle_status spindle__check_integer(const char *name, int64_t value, int64_t low, int64_t high);
spindle_status spindle__check_array(const char *name, const void *array, size_t alignment, bool required);
spindle_status spindle__check_shape(const spindle_shape *in, spindle_shape *out);
/* Fills in defaults and validates against the shape. The lists still point to the caller's. */
spindle_status spindle__check_position(const spindle_position *in, const spindle_shape *shape, spindle_position *out);
spindle_status spindle__check_batch(const spindle_plan *plan, const spindle_batch *in, spindle_batch *out);
spindle_status spindle__check_stream(const spindle_context *context, spindle_stream stream);

spindle_status spindle__check_workspace(const char *name, const void *workspace, size_t bytes, size_t needed);

size_t spindle__dtype_bytes(int32_t dtype);
const char *spindle__dtype_name(int32_t dtype);

/* A byte range that a tensor may touch. */
typedef struct spindle__extent {
  const char *name;
  uintptr_t begin, end; /* integers: a pointer past the end of what the caller claims would be undefined */
} spindle__extent;

/* Fill in contiguous strides, check base and strides, and say what is touched. Tensors of no elements touch nothing. */
spindle_status spindle__check_rows(const char *name, spindle_rows *t, int32_t dtype, int64_t batches, int64_t rows, int32_t heads,
                                   int32_t dim, spindle__extent *extent);
spindle_status spindle__check_cache(const char *name, spindle_cache *t, int32_t dtype, int64_t pages, int64_t page_rows,
                                    int32_t heads, int32_t dim, spindle__extent *extent);
spindle_status spindle__check_lse(const char *name, spindle_lse *t, int64_t batches, int64_t rows, int32_t heads,
                                  spindle__extent *extent);
spindle_status spindle__check_no_overlap(const spindle__extent *output, const spindle__extent *others, int32_t count);

/* ---- Backends ---- */

/* Memory, streams and events of the device that a backend runs on. */
typedef struct spindle__device {
  bool any_stream; /* else NULL alone */
  spindle_status (*alloc)(spindle_context *context, void **memory, size_t bytes);
  void (*release)(spindle_context *context, void *memory);
  spindle_status (*copy)(spindle_context *context, void *dst, const void *src, size_t bytes, spindle_stream stream);
  /* From host memory that the caller frees right after: refused where `stream` is being captured. */
  spindle_status (*upload)(spindle_context *context, void *dst, const void *src, size_t bytes, spindle_stream stream);
  spindle_status (*stream_create)(spindle_context *context, spindle_stream *stream);
  spindle_status (*stream_sync)(spindle_context *context, spindle_stream stream);
  void (*stream_destroy)(spindle_context *context, spindle_stream stream);
  spindle_status (*event_create)(spindle_context *context, spindle_event **event);
  spindle_status (*event_record)(spindle_context *context, spindle_event *event, spindle_stream stream);
  spindle_status (*event_elapsed)(spindle_context *context, spindle_event *begin, spindle_event *end, double *milliseconds);
  void (*event_destroy)(spindle_context *context, spindle_event *event);
} spindle__device;

/* Arguments have been validated and their defaults (strides too) filled in when these are called. A function that is NULL does
 * not exist on the backend: the caller reports SPINDLE_UNSUPPORTED. */
struct spindle__backend {
  const char *name;
  const spindle__device *device;
  bool (*present)(int32_t device);                  /* quietly; NULL: wherever the library runs */
  spindle_status (*open)(spindle_context *context); /* checks context->device, fills in context->arch; NULL: device is 0 */
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
};

extern const spindle__device spindle__host_device; /* of the two backends below */
extern const spindle__backend spindle__cpu_backend;
extern const spindle__backend spindle__reference_backend;
extern const spindle__backend spindle__cuda_backend; /* where the build has it: see backends.c */

/* asked: SPINDLE_BACKEND_*. Fills in context->backend and backend_kind, for context->device. */
spindle_status spindle__choose_backend(int32_t asked, spindle_context *context);

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
  int64_t j0, j1;
  int64_t next; /* slot number: entry * page_size + offset; dense: key number */
} spindle__key_cursor;

/* O(log entries). */
spindle__key_cursor spindle__keys_in(const spindle_batch *batch, const spindle__request *request, int64_t j0, int64_t j1);

/* false at the end. */
bool spindle__keys_next(spindle__key_cursor *cursor, spindle__key_run *run);

#endif
