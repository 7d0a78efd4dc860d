/* What the backends that run on the host give pure C programs: ordinary memory, a stream that is always done, and a clock. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

#define ALIGNMENT 256

struct spindle_event {
  struct timespec time;
};

static spindle_status alloc(spindle_context *context, void **memory, size_t bytes) {
  (void)context;
  if (!posix_memalign(memory, ALIGNMENT, bytes)) return SPINDLE_OK;
  *memory = NULL;
  return spindle__fail(SPINDLE_OUT_OF_MEMORY, "no memory for %zu bytes", bytes);
}

static void release(spindle_context *context, void *memory) {
  (void)context;
  free(memory);
}

static spindle_status copy(spindle_context *context, void *dst, const void *src, size_t bytes, spindle_stream stream) {
  (void)context, (void)stream;
  memmove(dst, src, bytes);
  return SPINDLE_OK;
}

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
  return *event ? SPINDLE_OK : spindle__fail(SPINDLE_OUT_OF_MEMORY, "no memory for an event (%zu bytes)", sizeof **event);
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

const spindle__device spindle__host_device = {
    .alloc = alloc,
    .release = release,
    .copy = copy,
    .upload = copy,
    .stream_create = stream_create,
    .stream_sync = stream_sync,
    .stream_destroy = stream_destroy,
    .event_create = event_create,
    .event_record = event_record,
    .event_elapsed = event_elapsed,
    .event_destroy = event_destroy,
};
