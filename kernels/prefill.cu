/* Chooses, loads and launches an instance of the prefill kernels. */
#include "launch.h"
#include "prefill_instance.cuh"
#include "sm90.cuh"

namespace spindle {
namespace {

#ifdef SPINDLE__WITHOUT_SM90 /* not among the architectures of the build */
}  // namespace
cudaError_t find_prefill_sm90(const spindle_shape &, spindle__prefill_info *) { return cudaSuccess; }
cudaError_t launch_prefill_sm90(const spindle__attention_params &, spindle_stream, bool *served) {
  *served = false;
  return cudaSuccess;
}
namespace {
#endif

/* NULL if there is none. */
const PrefillInstance *find_prefill(const spindle_shape &shape, Scores scores) {
  for (const auto find : {find_prefill_bf16, find_prefill_f16, find_prefill_bf16_e4m3, find_prefill_f16_e4m3})
    if (const PrefillInstance *i = find(shape, scores)) return i;
  return nullptr;
}

}  // namespace
}  // namespace spindle

extern "C" int spindle__prefill_find(const spindle_shape *shape, spindle__prefill_info *info) {
  using namespace spindle;
  *info = {};
  const cudaError_t failed = find_prefill_sm90(*shape, info);
  if (!failed && info->item_rows) info->head_dim = find_prefill(*shape, Scores::PLAIN)->key.head_dim; /* decode's, too */
  if (failed || info->item_rows) return failed;
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
  bool served;
  const cudaError_t error = launch_prefill_sm90(*params, stream, &served);
  if (error || served) return error;
  const PrefillInstance *i = find_prefill(params->shape, scores_of(*params));
  if (!i) return cudaErrorInvalidValue;
  return SPINDLE__LAUNCH(i->kernel, dim3((unsigned)params->blocks), i->threads, i->shared_bytes, stream, *params);
}
