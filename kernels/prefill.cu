/* Chooses, loads and launches an instance of the prefill kernels. */
#include "launch.h"
#include "prefill.cuh"

namespace spindle {
namespace {

/* NULL if there is none. */
const PrefillInstance *find_prefill(const spindle_shape &shape, Scores scores) {
  const PrefillInstance *i = find_prefill_bf16(shape, scores);
  return i ? i : find_prefill_f16(shape, scores);
}

}  // namespace
}  // namespace spindle

extern "C" int spindle__prefill_find(const spindle_shape *shape, spindle__prefill_info *info) {
  using namespace spindle;
  *info = {};
  for (Scores scores : {Scores::PLAIN, Scores::GENERAL}) {
    const PrefillInstance *i = find_prefill(*shape, scores);
    if (!i) return cudaSuccess;
    cudaError_t error = prim::allow_shared(i->kernel, i->shared_bytes);
    int32_t blocks = 0;
    if (!error) error = blocks_at_a_time(i->shared_bytes, i->blocks_per_sm, &blocks);
    if (error) return error;
    *info = {i->rows, i->tile_keys, blocks, i->key.head_dim};
  }
  return cudaSuccess;
}

extern "C" int spindle__launch_prefill(const spindle__attention_params *params, spindle_stream stream) {
  using namespace spindle;
  const PrefillInstance *i = find_prefill(params->shape, scores_of(*params));
  if (!i) return cudaErrorInvalidValue;
  return SPINDLE__LAUNCH(i->kernel, dim3((unsigned)params->blocks), i->threads, i->shared_bytes, stream, *params);
}
