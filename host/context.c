/* Contexts, and what they give pure C programs: memory, streams, events. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define MAX_THREADS 1024

spindle_status spindle_context_create(spindle_context **context, const spindle_context_options *options) {
  spindle_context_options o = {.struct_size = sizeof o};
  spindle_context made = {0};
  if (!context) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "context is NULL");
  if (options) SPINDLE__TRY(spindle__read_descriptor(&o, sizeof o, options, "options"));
  made.device = o.device;
  SPINDLE__TRY(spindle__choose_backend(o.backend, &made));
  SPINDLE__TRY(spindle__check_integer("options.num_threads", o.num_threads, 0, MAX_THREADS));
  if (made.backend->open)
    SPINDLE__TRY(made.backend->open(&made));
  else
    SPINDLE__TRY(spindle__check_integer("options.device", o.device, 0, 0));
  made.num_threads = o.num_threads ? o.num_threads : omp_get_max_threads();
  spindle_context *c = malloc(sizeof *c);
  if (!c) return spindle__fail(SPINDLE_OUT_OF_MEMORY, "no memory for a context (%zu bytes)", sizeof *c);
  *c = made;
  *context = c;
  return SPINDLE_OK;
}

void spindle_context_destroy(spindle_context *context) { free(context); }

spindle_status spindle_context_get_info(const spindle_context *context, spindle_context_info *info) {
  spindle_context_info found = {.struct_size = sizeof found};
  if (!context) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "context is NULL");
  if (!info) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "info is NULL");
  if (info->struct_size < sizeof info->struct_size || info->struct_size > sizeof found)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "info.struct_size is %zu, expected sizeof the struct (%zu)", info->struct_size,
                         sizeof found);
  found.backend = context->backend_kind;
  found.device = context->device;
  found.num_threads = context->num_threads;
  found.arch = context->arch;
  SPINDLE__TRY(context->backend->describe(context, found.name, sizeof found.name));
  found.struct_size = info->struct_size;
  memcpy(info, &found, info->struct_size);
  return SPINDLE_OK;
}

spindle_status spindle__check_stream(const spindle_context *context, spindle_stream stream) {
  if (stream && !context->backend->device->any_stream)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "stream is not NULL, as it must be on the %s backend", context->backend->name);
  return SPINDLE_OK;
}

static spindle_status check(const spindle_context *context, const void *pointer, const char *name) {
  if (!context) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "context is NULL");
  if (!pointer) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s is NULL", name);
  return SPINDLE_OK;
}

spindle_status spindle_malloc(spindle_context *context, void **memory, size_t bytes) {
  SPINDLE__TRY(check(context, memory, "memory"));
  *memory = NULL;
  return bytes ? context->backend->device->alloc(context, memory, bytes) : SPINDLE_OK;
}

void spindle_free(spindle_context *context, void *memory) {
  if (context && memory) context->backend->device->release(context, memory);
}

spindle_status spindle_copy(spindle_context *context, void *dst, const void *src, size_t bytes, spindle_stream stream) {
  if (bytes == 0 && context) return SPINDLE_OK;
  SPINDLE__TRY(check(context, dst, "dst"));
  SPINDLE__TRY(check(context, src, "src"));
  SPINDLE__TRY(spindle__check_stream(context, stream));
  return context->backend->device->copy(context, dst, src, bytes, stream);
}

spindle_status spindle_stream_create(spindle_context *context, spindle_stream *stream) {
  SPINDLE__TRY(check(context, stream, "stream"));
  return context->backend->device->stream_create(context, stream);
}

spindle_status spindle_stream_sync(spindle_context *context, spindle_stream stream) {
  SPINDLE__TRY(check(context, context, "context"));
  SPINDLE__TRY(spindle__check_stream(context, stream));
  return context->backend->device->stream_sync(context, stream);
}

void spindle_stream_destroy(spindle_context *context, spindle_stream stream) {
  if (context && stream) context->backend->device->stream_destroy(context, stream);
}

spindle_status spindle_event_create(spindle_context *context, spindle_event **event) {
  SPINDLE__TRY(check(context, event, "event"));
  return context->backend->device->event_create(context, event);
}

spindle_status spindle_event_record(spindle_context *context, spindle_event *event, spindle_stream stream) {
  SPINDLE__TRY(check(context, event, "event"));
  SPINDLE__TRY(spindle__check_stream(context, stream));
  return context->backend->device->event_record(context, event, stream);
}

spindle_status spindle_event_elapsed(spindle_context *context, spindle_event *begin, spindle_event *end, double *milliseconds) {
  SPINDLE__TRY(check(context, begin, "begin"));
  SPINDLE__TRY(check(context, end, "end"));
  SPINDLE__TRY(check(context, milliseconds, "milliseconds"));
  return context->backend->device->event_elapsed(context, begin, end, milliseconds);
}

void spindle_event_destroy(spindle_context *context, spindle_event *event) {
  if (context && event) context->backend->device->event_destroy(context, event);
}
