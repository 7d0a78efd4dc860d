/* Chooses, loads and launches an instance of the Hopper kernel: the tensor maps that it copies by. */
#include "sm90.cuh"

namespace spindle {
namespace {

/* NULL if there is none, or the device is no Hopper: sm_90a code runs on 9.0 alone. */
cudaError_t find_sm90(const spindle_shape &shape, Scores scores, const Sm90Instance **instance) {
  int device, major, minor;
  *instance = nullptr;
  cudaError_t error = cudaGetDevice(&device);
  if (!error) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (!error) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (error || major != 9 || minor != 0) return error;
  for (const auto find : {find_sm90_bf16, find_sm90_f16, find_sm90_bf16_e4m3, find_sm90_f16_e4m3})
    if ((*instance = find(shape, scores))) break;
  return cudaSuccess;
}

/* A cache that no boxes fit is copied by threads; pre-rotated keys lie as they should. */
template <class T>
cudaError_t cut_all_boxes(Sm90Params *all, const Sm90Instance &i) {
  const spindle__attention_params &p = all->attention;
  cut_boxes(&all->boxes, p, i.tile_keys, i.most_box_rows, i.box);
  if (!p.rotated) return cudaSuccess;
  const Tensor rotated = {p.rotated,
                          p.shape.head_dim_qk,
                          p.rotated_rows,
                          p.kv_end - p.kv_begin,
                          1,
                          p.rotated_stride,
                          p.rotated_rows * p.rotated_stride,
                          0};
  return encode_boxes<T>(&all->rotated, rotated, i.tile_keys, i.rotated);
}

}  // namespace

cudaError_t find_prefill_sm90(const spindle_shape &shape, spindle__kernel_info *info) {
  for (Scores scores : {Scores::PLAIN, Scores::GENERAL}) {
    const Sm90Instance *i;
    int32_t blocks = 0;
    cudaError_t error = find_sm90(shape, scores, &i);
    if (error || !i) return error;
    error = prim::allow_shared(i->kernel, i->shared_bytes);
    if (!error) error = blocks_at_a_time(i->shared_bytes, 1, &blocks);
    if (error) return error;
    *info = {i->rows, i->tile_keys, i->key.head_dim, blocks};
  }
  return cudaSuccess;
}

cudaError_t launch_prefill_sm90(const spindle__attention_params &params, spindle_stream stream, bool *served) {
  const Sm90Instance *i;
  cudaError_t error = find_sm90(params.shape, scores_of(params), &i);
  *served = i != nullptr;
  if (error || !i) return error;
  Sm90Params all = {};
  all.attention = params;
  error = i->key.q_dtype == SPINDLE_BF16 ? cut_all_boxes<bf16>(&all, *i) : cut_all_boxes<f16>(&all, *i);
  if (error) return error;
  return SPINDLE__LAUNCH(i->kernel, dim3((unsigned)params.blocks), i->threads, i->shared_bytes, stream, all);
}

}  // namespace spindle
