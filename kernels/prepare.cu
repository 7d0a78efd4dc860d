#include "prepare.cuh"

int spindle__launch_prepare(const spindle__prepare_params *params, spindle_stream stream) {
  if (params->max_tiles < (int64_t)params->bounds.max_q_rows + params->batch.max_requests) return cudaErrorInvalidValue;
  return SPINDLE__LAUNCH(spindle::prepare, dim3(1), spindle::PREPARE_THREADS, sizeof(spindle::PrepareShared), stream, *params);
}

int spindle__load_prepare(void) { return spindle::prim::allow_shared(spindle::prepare, sizeof(spindle::PrepareShared)); }
