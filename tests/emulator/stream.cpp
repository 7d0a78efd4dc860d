// Streams, events and graphs of the CUDA runtime.
//
// A stream is a queue of tasks. Late streams run them when somebody waits, so that the host sees how long its arguments must
// live; eager ones when they are enqueued. The legacy stream (null) runs its tasks at once, after all that is queued in the
// streams that synchronise with it. Capture appends tasks to a graph instead, also those of streams that wait for an event
// recorded under capture.
#include <chrono>
#include <deque>
#include <set>
#include <vector>

#include "core.h"
#include "runtime.h"

using emulator::Task;

struct CUgraph_st {
  std::vector<Task> tasks;
};
struct CUgraphExec_st {
  std::vector<Task> tasks;
};
struct CUstream_st {
  unsigned flags;
  int device;
  std::deque<Task> queue;
  CUgraph_st *graph;   // being recorded
  bool began_capture;  // here, not in a stream it joined
};
struct CUevent_st {
  CUstream_st *stream;  // where it was last recorded; null: complete
  int unreached;        // records of it still queued
  CUgraph_st *graph;    // recorded under capture
  std::chrono::steady_clock::time_point time;
};

namespace emulator {

static std::set<CUstream_st *> streams;
static int captures;  // under way

int stream_device(cudaStream_t stream) { return stream ? stream->device : current_device(); }
bool is_capturing(cudaStream_t stream) { return stream && stream->graph; }

static void drain(CUstream_st *stream) {
  while (!stream->queue.empty()) {
    const Task task = std::move(stream->queue.front());
    stream->queue.pop_front();
    task();
  }
}

static void drain_all(bool but_independent) {
  for (CUstream_st *s : streams) {
    if (!but_independent || !(s->flags & cudaStreamNonBlocking)) drain(s);
  }
}

cudaError_t enqueue(cudaStream_t stream, Task task) {
  if (is_capturing(stream)) {
    stream->graph->tasks.push_back(std::move(task));
  } else if (!stream) {
    if (captures) return cudaErrorStreamCaptureUnsupported;  // the legacy stream waits for the captured one
    drain_all(true);
    task();
  } else {
    stream->queue.push_back(std::move(task));
    if (options.streams == EMULATOR_EAGER) drain(stream);
  }
  return cudaSuccess;
}

bool any_capture() { return captures > 0; }

cudaError_t synchronous_call() {
  if (captures) return cudaErrorStreamCaptureUnsupported;
  drain_all(false);
  return cudaSuccess;
}

}  // namespace emulator

using namespace emulator;
#define GUARD std::lock_guard<std::recursive_mutex> guard(runtime_lock())

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
  GUARD;
  *stream = new CUstream_st{flags, current_device(), {}, nullptr, false};
  streams.insert(*stream);
  return status(cudaSuccess);
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  GUARD;
  if (!streams.count(stream)) return status(cudaErrorInvalidResourceHandle);
  drain(stream);
  streams.erase(stream);
  delete stream;
  return status(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  GUARD;
  if (is_capturing(stream)) return status(cudaErrorStreamCaptureUnsupported);
  if (stream)
    drain(stream);
  else
    drain_all(true);
  return status(cudaSuccess);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  GUARD;
  if (is_capturing(stream)) return status(cudaErrorStreamCaptureUnsupported);
  if (!stream || stream->queue.empty()) return status(cudaSuccess);
  const Task task = std::move(stream->queue.front());  // time passes: who polls gets there
  stream->queue.pop_front();
  task();
  return cudaErrorNotReady;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
  GUARD;
  return status(enqueue(stream, [=] { function(data); }));
}

// ---- Events -----------------------------------------------------------------------------------------------------------

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  *event = new CUevent_st{};
  return status(cudaSuccess);
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  GUARD;
  while (event->stream && !event->stream->queue.empty()) {
    const Task task = std::move(event->stream->queue.front());
    event->stream->queue.pop_front();
    task();
  }
  return status(cudaSuccess);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  cudaEventSynchronize(event);
  delete event;
  return status(cudaSuccess);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  GUARD;
  event->graph = stream ? stream->graph : nullptr;
  if (event->graph) return status(cudaSuccess);
  event->stream = stream;
  ++event->unreached;
  return status(enqueue(stream, [=] {
    event->time = std::chrono::steady_clock::now();
    if (!--event->unreached) event->stream = nullptr;
  }));
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  GUARD;
  if (!event->stream) return status(cudaSuccess);
  cudaStreamQuery(event->stream);
  return cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  GUARD;
  if (event->graph && stream) stream->graph = event->graph;  // joins the capture, in whose order it now stands
  if (is_capturing(stream)) return status(cudaSuccess);
  return status(enqueue(stream, [=] { cudaEventSynchronize(event); }));
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
  GUARD;
  if (from->stream || to->stream) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return status(cudaSuccess);
}

// ---- Graphs -----------------------------------------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  GUARD;
  if (!stream || stream->graph) return status(cudaErrorStreamCaptureUnsupported);
  stream->graph = new CUgraph_st;
  stream->began_capture = true;
  ++captures;
  return status(cudaSuccess);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  GUARD;
  if (!is_capturing(stream) || !stream->began_capture) return status(cudaErrorInvalidValue);
  *graph = stream->graph;
  --captures;
  for (CUstream_st *s : streams) {
    if (s->graph == *graph) s->graph = nullptr;
  }
  stream->began_capture = false;
  return status(cudaSuccess);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *capturing) {
  GUARD;
  *capturing = is_capturing(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return status(cudaSuccess);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->tasks};
  return status(cudaSuccess);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  GUARD;
  for (const Task &task : exec->tasks) {
    const cudaError_t error = enqueue(stream, task);
    if (error) return status(error);
  }
  return status(cudaSuccess);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return status(cudaSuccess);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return status(cudaSuccess);
}
