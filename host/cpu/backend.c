/* The CPU backend's table, and what pure C programs get for memory, streams and events. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu.h"

#define ALIGNMENT 256

struct spindle_event {
  struct timespec time;
};

static spindle_status describe(const spindle_context *context, char *name, size_t bytes) {
  (void)context;
  snprintf(name, bytes, "cpu (%s)", spindle__cpu_kernels_get()->name);
  return SPINDLE_OK;
}

static spindle_status alloc(spindle_context *context, void **memory, size_t bytes) {
  (void)context;
  if (posix_memalign(memory, ALIGNMENT, bytes)) {
    *memory = NULL;
    return spindle__fail(SPINDLE_OUT_OF_MEMORY, "no memory for %zu bytes", bytes);
  }
  return SPINDLE_OK;
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
  *milliseconds =
      (double)(end->time.tv_sec - begin->time.tv_sec) * 1e3 + (double)(end->time.tv_nsec - begin->time.tv_nsec) * 1e-6;
  return SPINDLE_OK;
}

static void event_destroy(spindle_context *context, spindle_event *event) {
  (void)context;
  free(event);
}

const spindle__backend spindle__cpu_backend = {
    .name = "cpu",
    .describe = describe,
    .plan = spindle__cpu_plan,
    .prepare = spindle__cpu_prepare,
    .attention = spindle__cpu_attention,
    .append = spindle__cpu_append,
    .rotate = spindle__cpu_rotate,
    .combine = spindle__cpu_combine,
    .alloc = alloc,
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
