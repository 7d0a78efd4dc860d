/* The current device, and what a cudaError_t is as a status. */
#include "cuda.h"

spindle_status spindle__cuda_fail(cudaError_t error, const char *call) {
  (void)cudaGetLastError(); /* reported here, so no later call should; a device that has faulted goes on failing */
  spindle_status status = error == cudaErrorMemoryAllocation ? SPINDLE_OUT_OF_MEMORY : SPINDLE_CUDA_ERROR;
  return spindle__fail(status, "%s: %s (%s)", call, cudaGetErrorString(error), cudaGetErrorName(error));
}

spindle_status spindle__cuda_enter(const spindle_context *context, int *before) {
  (void)cudaGetLastError();
  cudaError_t error = cudaGetDevice(before);
  if (error != cudaSuccess) return spindle__cuda_fail(error, "cudaGetDevice");
  if (*before != context->device) error = cudaSetDevice(context->device);
  return error == cudaSuccess ? SPINDLE_OK : spindle__cuda_fail(error, "cudaSetDevice");
}

spindle_status spindle__cuda_leave(int before, cudaError_t error, const char *call) {
  int current = before;
  if (cudaGetDevice(&current) == cudaSuccess && current != before) (void)cudaSetDevice(before);
  return error == cudaSuccess ? SPINDLE_OK : spindle__cuda_fail(error, call);
}
