/* Append, rotate and combine: one launch each. */
#include "cuda.h"

spindle_status spindle__cuda_append(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                                    const spindle_append_args *args, spindle_stream stream) {
  int before;
  spindle__append_params params = {.args = *args,
                                   .shape = *shape,
                                   .slots = positions ? positions->slots : NULL,
                                   .capacity = positions ? positions->capacity : 0};
  SPINDLE__TRY(spindle__cuda_enter(context, &before));
  return spindle__cuda_leave(before, (cudaError_t)spindle__launch_append(&params, stream), "append");
}

spindle_status spindle__cuda_rotate(spindle_context *context, const spindle_shape *shape, const spindle_positions *positions,
                                    const spindle_rotate_args *args, spindle_stream stream) {
  int before;
  spindle__rotate_params params = {.args = *args, .shape = *shape, .slots = positions->slots, .capacity = positions->capacity};
  SPINDLE__TRY(spindle__cuda_enter(context, &before));
  return spindle__cuda_leave(before, (cudaError_t)spindle__launch_rotate(&params, stream), "rotate");
}

spindle_status spindle__cuda_combine(spindle_context *context, const spindle_combine_args *args, bool scale_only,
                                     spindle_stream stream) {
  int before;
  SPINDLE__TRY(spindle__cuda_enter(context, &before));
  return spindle__cuda_leave(before, (cudaError_t)spindle__launch_combine(args, scale_only, stream), "combine");
}
