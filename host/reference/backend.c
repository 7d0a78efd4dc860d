/* The reference backend's table of functions: preparing a step, memory and time. */
#include "reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static spindle_status describe(const spindle_context *context, char *name, size_t bytes) {
  (void)context;
  snprintf(name, bytes, "reference (float64)");
  return SPINDLE_OK;
}

static size_t whole_lines(size_t bytes) { return (bytes + 255) / 256 * 256; }

static spindle_status plan_sizes(spindle_plan *plan) {
  plan->state_bytes = whole_lines((size_t)plan->options.max_requests * sizeof(spindle__ref_request));
  plan->scratch_bytes = spindle__ref_scratch_bytes(plan);
  return SPINDLE_OK;
}

static spindle_status prepare(const spindle_plan *plan, const spindle_positions *positions, const spindle_batch *batch,
                              void *state, spindle_stream stream) {
  (void)stream;
  spindle__ref_request *prepared = state;
  for (int32_t r = 0; r < batch->max_requests; r++) {
    spindle__batch_request(plan, positions, batch, r, &prepared[r].request);
    const spindle__slot *slot = &positions->slots[prepared[r].request.slot];
    prepared[r].position = slot->position;
    spindle__ref_rope_of_slot(slot, plan->shape.rotary_dim, prepared[r].request.n, &prepared[r].rope);
  }
  return SPINDLE_OK;
}

/* ---- Memory ---- */

static spindle_status allocate(spindle_context *context, void **memory, size_t bytes) {
  (void)context;
  *memory = bytes ? aligned_alloc(256, whole_lines(bytes)) : NULL;
  if (bytes && !*memory) return spindle__fail(SPINDLE_OUT_OF_MEMORY, "no memory for %zu bytes", bytes);
  return SPINDLE_OK;
}

static void release(spindle_context *context, void *memory) {
  (void)context;
  free(memory);
}

static spindle_status copy(spindle_context *context, void *dst, const void *src, size_t bytes, spindle_stream stream) {
  (void)context, (void)stream;
  if (bytes) memcpy(dst, src, bytes);
  return SPINDLE_OK;
}

/* ---- Streams and events: calls return when their work is done ---- */

struct spindle_event {
  struct timespec time;
};

static spindle_status stream_create(spindle_context *context, spindle_stream *stream) {
  (void)context;
  *stream = NULL;
  return SPINDLE_OK;
}

static spindle_status stream_sync(spindle_context *context, spindle_stream stream) {
  (void)context, (void)stream;
  return SPINDLE_OK;
}

static void stream_destroy(spindle_context *context, spindle_stream stream) { (void)context, (void)stream; }

static spindle_status event_create(spindle_context *context, spindle_event **event) {
  (void)context;
  *event = calloc(1, sizeof **event);
  return *event ? SPINDLE_OK : spindle__fail(SPINDLE_OUT_OF_MEMORY, "no memory for an event");
}

static spindle_status event_record(spindle_context *context, spindle_event *event, spindle_stream stream) {
  (void)context, (void)stream;
  clock_gettime(CLOCK_MONOTONIC, &event->time);
  return SPINDLE_OK;
}

static spindle_status event_elapsed(spindle_context *context, spindle_event *begin, spindle_event *end, double *milliseconds) {
  (void)context;
  double seconds = (double)(end->time.tv_sec - begin->time.tv_sec);
  *milliseconds = 1e3 * seconds + 1e-6 * (double)(end->time.tv_nsec - begin->time.tv_nsec);
  return SPINDLE_OK;
}

static void event_destroy(spindle_context *context, spindle_event *event) {
  (void)context;
  free(event);
}

const spindle__backend spindle__reference_backend = {
    .name = "reference",
    .describe = describe,
    .plan = plan_sizes,
    .prepare = prepare,
    .attention = spindle__ref_attention,
    .append = spindle__ref_append,
    .rotate = spindle__ref_rotate,
    .combine = spindle__ref_combine,
    .alloc = allocate,
    .release = release,
    .copy = copy,
    .stream_create = stream_create,
    .stream_sync = stream_sync,
    .stream_destroy = stream_destroy,
    .event_create = event_create,
    .event_record = event_record,
    .event_elapsed = event_elapsed,
    .event_destroy = event_destroy,
};
