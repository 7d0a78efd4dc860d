// Devices, memory and launches of the CUDA runtime.
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>

#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "core.h"
#include "global.h"
#include "prim_runtime.h"

namespace emulator {

static thread_local bool context;

std::recursive_mutex &runtime_lock() {
  static std::recursive_mutex lock;
  context = true;
  return lock;
}
bool has_context() { return context; }

static thread_local cudaError_t last_error;
static thread_local int device;
static std::map<const char *, size_t> pinned;                // host allocations of cudaMallocHost
static std::map<const void *, size_t> allowed_shared_bytes;  // by kernel

cudaError_t status(cudaError_t error) {
  if (any_findings()) error = cudaErrorLaunchFailure;
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

int current_device() { return device; }

static int environment(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text && *text ? atoi(text) : otherwise;
}

// Of the GPUs whose compute capability this is.
struct Model {
  int arch;
  const char *name;
  int multiprocessors, shared_kib, shared_kib_block;
};

static const Model &model() {
  static const Model models[] = {{80, "A100", 108, 164, 163}, {86, "RTX 3090", 82, 100, 99}, {89, "RTX 4090", 128, 100, 99},
                                 {90, "H100", 132, 228, 227}, {100, "B200", 148, 228, 227},  {120, "RTX 5090", 170, 100, 99}};
  const int arch = environment("SPINDLE_EMULATED_ARCH", 80);
  for (const Model &m : models) {
    if (m.arch == arch) return m;
  }
  fprintf(stderr, "emulator: SPINDLE_EMULATED_ARCH is one of 80, 86, 89, 90, 100, 120, not %d\n", arch);
  exit(2);
}

static bool is_pinned(const void *pointer) {
  auto next = pinned.upper_bound((const char *)pointer);
  if (next == pinned.begin()) return false;
  --next;
  return (const char *)pointer < next->first + next->second;
}

static cudaError_t check_launch(const void *kernel, dim3 grid, int threads, size_t shared_bytes) {
  const auto allowed = allowed_shared_bytes.find(kernel);
  const size_t limit = allowed == allowed_shared_bytes.end() ? 48 * 1024 : allowed->second;
  if (threads < WARP || threads % WARP || threads > 1024) {
    report(EMULATOR_BAD_LAUNCH, {}, "%d threads: a multiple of 32 up to 1024", threads);
    return cudaErrorInvalidConfiguration;
  }
  if (!grid.x || grid.x > 1u << 22 || grid.y != 1 || grid.z != 1) {
    report(EMULATOR_BAD_LAUNCH, {}, "grid %u x %u x %u: one dimension, here at most 4M blocks", grid.x, grid.y, grid.z);
    return cudaErrorInvalidConfiguration;
  }
  if (shared_bytes > limit) {
    report(EMULATOR_BAD_LAUNCH, {}, "%zu bytes of shared memory: %zu are allowed (see allow_shared)", shared_bytes, limit);
    return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

cudaError_t enqueue_launch(const void *kernel, dim3 grid, int threads, size_t shared_bytes, cudaStream_t stream,
                           std::function<void()> body) {
  std::lock_guard<std::recursive_mutex> guard(runtime_lock());
  const int on = stream_device(stream);
  const cudaError_t error = on == device ? check_launch(kernel, grid, threads, shared_bytes) : cudaErrorInvalidResourceHandle;
  if (error) return status(error);
  return status(enqueue(stream, [=] {
    const Launch launch = {grid.x, threads, shared_bytes, on, model().arch, new_launch_id(), &body, options};
    add_kernel(kernel);
    run_grid(launch);
  }));
}

}  // namespace emulator

using namespace emulator;
#define GUARD std::lock_guard<std::recursive_mutex> guard(runtime_lock())

// ---- Errors, devices --------------------------------------------------------------------------------------------------

const char *cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle: return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorNotSupported: return "cudaErrorNotSupported";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureUnjoined: return "cudaErrorStreamCaptureUnjoined";
  }
  return "unrecognized error code";
}
const char *cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchFailure ? "the emulator has findings (see stderr)" : cudaGetErrorName(error);
}
cudaError_t cudaPeekAtLastError(void) { return any_findings() ? cudaErrorLaunchFailure : last_error; }
cudaError_t cudaGetLastError(void) {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaGetDeviceCount(int *count) {
  *count = environment("SPINDLE_EMULATED_DEVICES", 1);
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *number) {
  *number = device;
  return cudaSuccess;
}
static bool is_device(int number) { return number >= 0 && number < environment("SPINDLE_EMULATED_DEVICES", 1); }
cudaError_t cudaSetDevice(int number) {
  if (!is_device(number)) return status(cudaErrorInvalidDevice);
  device = number;
  context = true;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int number) {
  if (!is_device(number)) return status(cudaErrorInvalidDevice);
  const Model &m = model();
  memset(p, 0, sizeof *p);
  snprintf(p->name, sizeof p->name, "emulated %s", m.name);
  p->totalGlobalMem = (size_t)16 << 30;
  p->sharedMemPerBlock = 48 * 1024;
  p->sharedMemPerBlockOptin = (size_t)m.shared_kib_block * 1024;
  p->sharedMemPerMultiprocessor = (size_t)m.shared_kib * 1024;
  p->major = m.arch / 10;
  p->minor = m.arch % 10;
  p->multiProcessorCount = m.multiprocessors;
  p->warpSize = WARP;
  p->maxThreadsPerBlock = 1024;
  p->l2CacheSize = 40 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int number) {
  cudaDeviceProp p;
  if (cudaGetDeviceProperties(&p, number)) return cudaErrorInvalidDevice;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; return cudaSuccess;
    case cudaDevAttrWarpSize: *value = p.warpSize; return cudaSuccess;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)p.sharedMemPerMultiprocessor; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; return cudaSuccess;
  }
  return status(cudaErrorInvalidValue);
}
cudaError_t cudaDeviceSynchronize(void) {
  GUARD;
  return status(synchronous_call());
}

// ---- Memory -----------------------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void **pointer, size_t bytes) {
  GUARD;
  if (any_capture()) return status(cudaErrorStreamCaptureUnsupported);
  *pointer = bytes ? allocate(bytes, device) : nullptr;
  return status(*pointer || !bytes ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void *pointer) {
  GUARD;
  const cudaError_t error = synchronous_call();
  if (error) return status(error);
  return status(!pointer || deallocate(pointer) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaMallocHost(void **pointer, size_t bytes) {
  GUARD;
  *pointer = malloc(bytes ? bytes : 1);
  if (!*pointer) return status(cudaErrorMemoryAllocation);
  pinned[(const char *)*pointer] = bytes;
  return status(cudaSuccess);
}
cudaError_t cudaFreeHost(void *pointer) {
  GUARD;
  const cudaError_t error = synchronous_call();
  if (error) return status(error);
  if (pointer && !pinned.erase((const char *)pointer)) return status(cudaErrorInvalidValue);
  free(pointer);
  return status(cudaSuccess);
}

// Host memory is any that is no device memory, so only device ends can be checked.
static bool copyable(const void *pointer, size_t bytes, bool must_be_device) {
  const Allocation *a = find_allocation(pointer);
  if (!a) return !must_be_device;
  return (const char *)pointer >= a->base && (const char *)pointer + bytes <= a->base + a->bytes;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  GUARD;
  if (!bytes) return status(cudaSuccess);
  if (!copyable(to, bytes, kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
      !copyable(from, bytes, kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)) {
    return status(cudaErrorInvalidValue);
  }
  const bool to_host = !find_allocation(to), from_host = !find_allocation(from);
  if (!is_capturing(stream) && from_host && !is_pinned(from)) {  // staged: the caller may change it at once
    auto staged = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
    return status(enqueue(stream, [=] { memcpy(to, staged->data(), bytes); }));
  }
  const cudaError_t error = enqueue(stream, [=] { memmove(to, from, bytes); });
  if (!error && !is_capturing(stream) && to_host && !is_pinned(to)) return cudaStreamSynchronize(stream);
  return status(error);
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
  GUARD;
  if (!copyable(to, bytes, true)) return status(cudaErrorInvalidValue);
  return status(enqueue(stream, [=] { memset(to, value, bytes); }));
}
cudaError_t cudaMemset(void *to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }
cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
  GUARD;
  *total = (size_t)16 << 30;
  *available = *total - allocated_bytes();
  return status(cudaSuccess);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer) {
  GUARD;
  const Allocation *a = find_allocation(pointer);
  const bool host = is_pinned(pointer);
  *attributes = {a      ? cudaMemoryTypeDevice
                 : host ? cudaMemoryTypeHost
                        : cudaMemoryTypeUnregistered,
                 a ? a->device : device, a ? (void *)pointer : nullptr, host ? (void *)pointer : nullptr};
  return status(cudaSuccess);
}

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value) {
  GUARD;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > model().shared_kib_block * 1024) {
    return status(cudaErrorInvalidValue);
  }
  allowed_shared_bytes[function] = (size_t)value;
  return status(cudaSuccess);
}
