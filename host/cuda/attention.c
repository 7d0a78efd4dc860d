/* Prepare and attention: parameters filled in, and launches in order. */
#include "cuda.h"

spindle_status spindle__cuda_prepare(const spindle_plan *plan, const spindle_positions *positions, const spindle_batch *batch,
                                     void *state, spindle_stream stream) {
  int before;
  spindle__cuda_layout y;
  const spindle_plan_options *o = &plan->options;
  spindle__cuda_layout_of(plan, &y);
  spindle__prepare_params params = {.batch = *batch,
                                    .bounds = {.max_q_rows = o->max_q_rows,
                                               .max_q_len = o->max_q_len,
                                               .capacity = positions->capacity,
                                               .max_kv_len = o->max_kv_len},
                                    .schedule = y.schedule,
                                    .slots = positions->slots,
                                    .rotary_dim = plan->shape.rotary_dim,
                                    .raw_keys = plan->shape.key_state == SPINDLE_KEYS_RAW,
                                    .rotate_when = o->schedule,
                                    .split_keys = o->split_keys,
                                    .blocks = {plan->kernel.blocks, plan->kernel.decode_blocks},
                                    .tile_keys = plan->kernel.tile_keys,
                                    .max_partials = y.max_partials,
                                    .max_rotated_rows = y.max_rotated_rows,
                                    .max_tiles = y.max_tiles,
                                    .max_segments = y.max_segments,
                                    .state = spindle__cuda_state_of(&y, state)};
  SPINDLE__TRY(spindle__cuda_enter(plan->context, &before));
  return spindle__cuda_leave(before, (cudaError_t)spindle__launch_prepare(&params, stream), "prepare");
}

static spindle__attention_params make_params(const spindle_plan *plan, const spindle__cuda_layout *y,
                                             const spindle_attention_args *args) {
  char *scratch = args->scratch;
  spindle__attention_params params = {.shape = plan->shape,
                                      .batch = plan->batch,
                                      .args = *args,
                                      .schedule = y->schedule,
                                      .state = spindle__cuda_state_of(y, plan->state),
                                      .with_sinks = !plan->options.partial,
                                      .rotated_rows = y->max_rotated_rows,
                                      .rotated_stride = y->rotated_stride,
                                      .o_stride = y->o_stride};
  if (y->max_rotated_rows) params.rotated = scratch + y->rotated;
  if (y->max_partials) params.partial_o = (float *)(void *)(scratch + y->partial_o);
  if (y->max_partials) params.partial_ml = (float *)(void *)(scratch + y->partial_ml);
  if (plan->options.split_keys) params.whole = (float *)(void *)(scratch + y->whole);
  return params;
}

/* The items of both lists, as far as the plan's bounds allow a list to have some. */
static int launch_lists(const spindle_plan *plan, spindle__attention_params *params, spindle_stream stream) {
  const spindle__kernel *k = &plan->kernel;
  bool all_few = k->decode_blocks && (int64_t)plan->options.max_q_len * params->schedule.group <= SPINDLE__DECODE_ROWS;
  int error = cudaSuccess;
  if (!all_few) {
    params->list = SPINDLE__LIST_PREFILL;
    params->blocks = k->blocks;
    error = spindle__launch_prefill(params, stream);
  }
  if (!error && k->decode_blocks) {
    params->list = SPINDLE__LIST_DECODE;
    params->blocks = k->decode_blocks;
    error = spindle__launch_decode(params, stream);
  }
  return error;
}

/* Keys of a few KV heads at a time are rotated into scratch and read from there; lengths are known to the device alone, so the
 * passes are launched whether or not a request needs them. */
static cudaError_t launch_passes(const spindle_plan *plan, spindle__attention_params *params, int32_t pass_heads,
                                 spindle_stream stream) {
  int error = cudaSuccess;
  for (int32_t head = 0; !error && head < params->shape.num_kv_heads; head += pass_heads) {
    params->kv_begin = head;
    params->kv_end = (int32_t)spindle__min(head + pass_heads, params->shape.num_kv_heads);
    params->blocks = plan->kernel.blocks;
    if (params->rotated) error = spindle__launch_rotate_keys(params, stream);
    if (!error) error = launch_lists(plan, params, stream);
  }
  return (cudaError_t)error;
}

spindle_status spindle__cuda_attention(const spindle_plan *plan, const spindle_attention_args *args, spindle_stream stream) {
  int before;
  spindle__cuda_layout y;
  spindle__cuda_layout_of(plan, &y);
  spindle__attention_params params = make_params(plan, &y, args);
  SPINDLE__TRY(spindle__cuda_enter(plan->context, &before));
  cudaError_t error = launch_passes(plan, &params, y.pass_heads, stream);
  if (error == cudaSuccess && y.max_partials) error = (cudaError_t)spindle__launch_merge_splits(&params, stream);
  return spindle__cuda_leave(before, error, "attention");
}
