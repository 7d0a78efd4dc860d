/* Memory, streams and events of a CUDA device. A spindle_event is the cudaEvent_t itself. */
#include "cuda.h"

static spindle_status alloc(spindle_context *context, void **memory, size_t bytes) {
  int before;
  SPINDLE__TRY(spindle__cuda_enter(context, &before));
  cudaError_t error = cudaMalloc(memory, bytes); /* aligned to 256 bytes at least */
  if (error != cudaSuccess) *memory = NULL;
  spindle_status status = spindle__cuda_leave(before, error, "cudaMalloc");
  if (status == SPINDLE_OUT_OF_MEMORY)
    return spindle__fail(status, "device %d has no memory for %zu bytes", context->device, bytes);
  return status;
}

static void release(spindle_context *context, void *memory) {
  int before;
  if (spindle__cuda_enter(context, &before) == SPINDLE_OK) (void)spindle__cuda_leave(before, cudaFree(memory), "cudaFree");
}

static spindle_status copy(spindle_context *context, void *dst, const void *src, size_t bytes, spindle_stream stream) {
  int before;
  SPINDLE__TRY(spindle__cuda_enter(context, &before));
  return spindle__cuda_leave(before, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, stream), "cudaMemcpyAsync");
}

/* Pageable memory is staged before cudaMemcpyAsync returns. A captured copy would read it at every replay instead. */
static spindle_status upload(spindle_context *context, void *dst, const void *src, size_t bytes, spindle_stream stream) {
  int before;
  enum cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  SPINDLE__TRY(spindle__cuda_enter(context, &before));
  SPINDLE__TRY(spindle__cuda_leave(before, cudaStreamIsCapturing(stream, &capture), "cudaStreamIsCapturing"));
  if (capture != cudaStreamCaptureStatusNone)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "stream is being captured, and this call copies what is gone at a replay");
  return copy(context, dst, src, bytes, stream);
}

/* Ordered with stream NULL, unlike one made with cudaStreamNonBlocking: a program without CUDA's headers copies there. */
static spindle_status stream_create(spindle_context *context, spindle_stream *stream) {
  int before;
  SPINDLE__TRY(spindle__cuda_enter(context, &before));
  return spindle__cuda_leave(before, cudaStreamCreate(stream), "cudaStreamCreate");
}

static spindle_status stream_sync(spindle_context *context, spindle_stream stream) {
  int before;
  SPINDLE__TRY(spindle__cuda_enter(context, &before));
  return spindle__cuda_leave(before, cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

static void stream_destroy(spindle_context *context, spindle_stream stream) {
  int before;
  if (spindle__cuda_enter(context, &before) == SPINDLE_OK)
    (void)spindle__cuda_leave(before, cudaStreamDestroy(stream), "cudaStreamDestroy");
}

static spindle_status event_create(spindle_context *context, spindle_event **event) {
  int before;
  cudaEvent_t made = NULL;
  SPINDLE__TRY(spindle__cuda_enter(context, &before));
  SPINDLE__TRY(spindle__cuda_leave(before, cudaEventCreate(&made), "cudaEventCreate"));
  *event = (spindle_event *)made;
  return SPINDLE_OK;
}

static spindle_status event_record(spindle_context *context, spindle_event *event, spindle_stream stream) {
  int before;
  SPINDLE__TRY(spindle__cuda_enter(context, &before));
  return spindle__cuda_leave(before, cudaEventRecord((cudaEvent_t)event, stream), "cudaEventRecord");
}

static spindle_status event_elapsed(spindle_context *context, spindle_event *begin, spindle_event *end, double *milliseconds) {
  int before;
  float elapsed = 0;
  SPINDLE__TRY(spindle__cuda_enter(context, &before));
  cudaError_t error = cudaEventSynchronize((cudaEvent_t)begin);
  if (error == cudaSuccess) error = cudaEventSynchronize((cudaEvent_t)end);
  if (error == cudaSuccess) error = cudaEventElapsedTime(&elapsed, (cudaEvent_t)begin, (cudaEvent_t)end);
  SPINDLE__TRY(spindle__cuda_leave(before, error, "cudaEventElapsedTime"));
  *milliseconds = (double)elapsed;
  return SPINDLE_OK;
}

static void event_destroy(spindle_context *context, spindle_event *event) {
  int before;
  if (spindle__cuda_enter(context, &before) == SPINDLE_OK)
    (void)spindle__cuda_leave(before, cudaEventDestroy((cudaEvent_t)event), "cudaEventDestroy");
}

const spindle__device spindle__cuda_device = {
    .any_stream = true,
    .alloc = alloc,
    .release = release,
    .copy = copy,
    .upload = upload,
    .stream_create = stream_create,
    .stream_sync = stream_sync,
    .stream_destroy = stream_destroy,
    .event_create = event_create,
    .event_record = event_record,
    .event_elapsed = event_elapsed,
    .event_destroy = event_destroy,
};
