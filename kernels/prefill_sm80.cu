/* Chooses, loads and launches an instance of the sm_80 kernel. */
#include "sm80.cuh"

namespace spindle {
namespace {

/* NULL if there is none. */
const Sm80Instance *find_sm80(const spindle_shape &shape, Scores scores) {
  for (const auto find : {find_sm80_bf16, find_sm80_f16, find_sm80_bf16_e4m3, find_sm80_f16_e4m3})
    if (const Sm80Instance *i = find(shape, scores)) return i;
  return nullptr;
}

}  // namespace

cudaError_t find_prefill_sm80(const spindle_shape &shape, spindle__kernel_info *info) {
  for (Scores scores : {Scores::PLAIN, Scores::GENERAL}) {
    const Sm80Instance *i = find_sm80(shape, scores);
    if (!i) return cudaSuccess;
    int32_t blocks = 0;
    cudaError_t error = prim::allow_shared(i->kernel, i->shared_bytes);
    if (!error) error = blocks_at_a_time(i->shared_bytes, i->blocks_per_sm, &blocks);
    if (error) return error;
    *info = {i->rows, i->tile_keys, i->key.head_dim, blocks};
  }
  return cudaSuccess;
}

cudaError_t launch_prefill_sm80(const spindle__attention_params &params, spindle_stream stream, bool *served) {
  const Sm80Instance *i = find_sm80(params.shape, scores_of(params));
  *served = i != nullptr;
  if (!i) return cudaSuccess;
  return SPINDLE__LAUNCH(i->kernel, dim3((unsigned)params.blocks), i->threads, i->shared_bytes, stream, params);
}

}  // namespace spindle
