/* The CUDA backend's table, and which devices it serves. */
#include <stdio.h>

#include "cuda.h"

/* 10 x compute capability. */
static cudaError_t arch_of(int32_t device, int32_t *arch) {
  int major = 0, minor = 0;
  cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  *arch = 10 * major + minor;
  return error;
}

static bool present(int32_t device) {
  int count = 0;
  int32_t arch = 0;
  bool found = cudaGetDeviceCount(&count) == cudaSuccess && device >= 0 && device < count &&
               arch_of(device, &arch) == cudaSuccess && arch >= SPINDLE__CUDA_LEAST_ARCH;
  if (!found) (void)cudaGetLastError();
  return found;
}

static spindle_status load_kernels(const spindle_context *context) {
  int before, error;
  SPINDLE__TRY(spindle__cuda_enter(context, &before));
  error = spindle__load_prepare();
  if (!error) error = spindle__load_rotate();
  if (!error) error = spindle__load_append();
  if (!error) error = spindle__load_combine();
  return spindle__cuda_leave(before, (cudaError_t)error, "loading kernels");
}

static spindle_status open_context(spindle_context *context) {
  int count = 0;
  int32_t arch = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    return spindle__fail(SPINDLE_NO_DEVICE, "there is no CUDA device: %s", cudaGetErrorString(error));
  }
  if (count == 0) return spindle__fail(SPINDLE_NO_DEVICE, "there is no CUDA device");
  SPINDLE__TRY(spindle__check_integer("options.device", context->device, 0, count - 1));
  error = arch_of(context->device, &arch);
  if (error != cudaSuccess) return spindle__cuda_fail(error, "cudaDeviceGetAttribute");
  if (arch < SPINDLE__CUDA_LEAST_ARCH)
    return spindle__fail(SPINDLE_NO_DEVICE, "device %d of %d has compute capability %d.%d, at least %d.%d is needed",
                         context->device, count, arch / 10, arch % 10, SPINDLE__CUDA_LEAST_ARCH / 10,
                         SPINDLE__CUDA_LEAST_ARCH % 10);
  context->arch = arch;
  return load_kernels(context);
}

static spindle_status describe(const spindle_context *context, char *name, size_t bytes) {
  struct cudaDeviceProp properties;
  cudaError_t error = cudaGetDeviceProperties(&properties, context->device);
  if (error != cudaSuccess) return spindle__cuda_fail(error, "cudaGetDeviceProperties");
  snprintf(name, bytes, "%s", properties.name);
  return SPINDLE_OK;
}

const spindle__backend spindle__cuda_backend = {
    .name = "cuda",
    .device = &spindle__cuda_device,
    .present = present,
    .open = open_context,
    .describe = describe,
    .plan = spindle__cuda_plan,
    .prepare = spindle__cuda_prepare,
    .attention = spindle__cuda_attention,
    .append = spindle__cuda_append,
    .rotate = spindle__cuda_rotate,
    .combine = spindle__cuda_combine,
};
