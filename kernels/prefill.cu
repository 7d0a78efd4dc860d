/* Chooses between the prefill kernels: Hopper's on Hopper, which serves all shapes that the other does, else that of sm_80. A
 * build for no device of one is without it. */
#include "launch.h"
#include "sm80.cuh"
#include "sm90.cuh"

extern "C" int spindle__prefill_find(const spindle_shape *shape, spindle__kernel_info *info) {
  cudaError_t error = cudaSuccess;
  *info = {};
#ifndef SPINDLE__WITHOUT_SM90
  error = spindle::find_prefill_sm90(*shape, info);
#endif
#ifndef SPINDLE__WITHOUT_SM80
  if (!error && !info->item_rows) error = spindle::find_prefill_sm80(*shape, info);
#endif
  return error;
}

extern "C" int spindle__launch_prefill(const spindle__attention_params *params, spindle_stream stream) {
  cudaError_t error = cudaSuccess;
  bool served = false;
#ifndef SPINDLE__WITHOUT_SM90
  error = spindle::launch_prefill_sm90(*params, stream, &served);
#endif
#ifndef SPINDLE__WITHOUT_SM80
  if (!error && !served) error = spindle::launch_prefill_sm80(*params, stream, &served);
#endif
  return error || served ? error : cudaErrorInvalidValue;
}
