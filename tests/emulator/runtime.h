// What runtime.cpp (devices, memory, kernels) and stream.cpp (streams, events, graphs) share.
#ifndef EMULATOR_RUNTIME_H
#define EMULATOR_RUNTIME_H

#include <functional>
#include <mutex>

#include "cuda_runtime_api.h"

namespace emulator {

using Task = std::function<void()>;

// Held by every call of the runtime, while kernels run too: launches do not overlap. Such a call gives its thread a context.
std::recursive_mutex &runtime_lock();

// Whether the calling thread has one, which the driver's own calls need: after no more than cudaGetDevice and the like it has
// not.
bool has_context();

// The error of a call, which cudaGetLastError gives again. After a finding every call fails, as after a fault on a device.
cudaError_t status(cudaError_t error);

int current_device();
int stream_device(cudaStream_t stream);

// stream.cpp. Tasks of a stream run in order, at once or when somebody waits, or are recorded.
cudaError_t enqueue(cudaStream_t stream, Task task);
bool is_capturing(cudaStream_t stream);
bool any_capture();
cudaError_t synchronous_call();  // what waits for the device: refused under capture, else all streams are drained

}  // namespace emulator

#endif
