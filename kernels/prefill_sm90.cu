/* Chooses, loads and launches an instance of the Hopper kernel: the tensor maps that it copies by. */
#include "sm90.cuh"

namespace spindle {
namespace {

/* NULL if there is none, or the device is no Hopper: sm_90a code runs on 9.0 alone. */
cudaError_t find_sm90(spindle_shape shape, Scores scores, const Sm90Instance **instance) {
  int device, major, minor;
  *instance = nullptr;
  cudaError_t error = cudaGetDevice(&device);
  if (!error) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (!error) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (error || major != 9 || minor != 0) return error;
  shape.key_state = SPINDLE_KEYS_RAW;
  *instance = find_sm90_bf16(shape, scores);
  if (!*instance) *instance = find_sm90_f16(shape, scores);
  return cudaSuccess;
}

struct Tensor {
  const void *data;
  int64_t channels, rows, heads, pages;
  int64_t row, head, page; /* strides in elements; 0 where there is but one */
};

/* Fails where no boxes can be cut from a tensor, for its strides. */
template <class T>
cudaError_t encode(CUtensorMap *map, const Sm90Instance &i, const Tensor &t, int rows) {
  const auto stride = [](int64_t elements) { return (uint64_t)(elements ? elements * (int64_t)sizeof(T) : 16); };
  return prim::encode_tensor_map<T, 4>(
      map, (const T *)t.data, {(uint64_t)t.channels, (uint64_t)t.rows, (uint64_t)t.heads, (uint64_t)t.pages},
      {stride(t.row), stride(t.head), stride(t.page)}, {(uint32_t)i.panel, (uint32_t)rows, 1, 1}, i.swizzle);
}

Tensor cache_of(const spindle__attention_params &p, const spindle_cache &t, int32_t channels) {
  const int64_t rows = p.batch.page_size ? p.batch.page_size : INT32_MAX; /* dense: as many as lengths say */
  const int64_t pages = t.page ? p.batch.num_pages : 1;
  return {t.data, channels, rows, p.shape.num_kv_heads, pages, t.row, t.head, t.page};
}

/* A cache that no boxes fit is copied by threads; pre-rotated keys lie as they should. */
template <class T>
cudaError_t encode_maps(Sm90Params *all, const Sm90Instance &i) {
  const spindle__attention_params &p = all->attention;
  const int rows = all->box_rows;
  if (rows && (encode<T>(&all->k, i, cache_of(p, p.args.k, p.shape.head_dim_qk), rows) ||
               encode<T>(&all->v, i, cache_of(p, p.args.v, p.shape.head_dim_v), rows)))
    all->box_rows = 0;
  if (!p.rotated) return cudaSuccess;
  const Tensor rotated = {p.rotated,
                          p.shape.head_dim_qk,
                          p.rotated_rows,
                          p.kv_end - p.kv_begin,
                          1,
                          p.rotated_stride,
                          p.rotated_rows * p.rotated_stride,
                          0};
  return encode<T>(&all->rotated, i, rotated, i.tile_keys);
}

}  // namespace

cudaError_t find_prefill_sm90(const spindle_shape &shape, spindle__prefill_info *info) {
  for (Scores scores : {Scores::PLAIN, Scores::GENERAL}) {
    const Sm90Instance *i;
    int32_t blocks = 0;
    cudaError_t error = find_sm90(shape, scores, &i);
    if (error || !i) return error;
    error = prim::allow_shared(i->kernel, i->shared_bytes);
    if (!error) error = blocks_at_a_time(i->shared_bytes, 1, &blocks);
    if (error) return error;
    *info = {i->rows, i->tile_keys, blocks, i->key.head_dim};
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
  const int32_t page = params.batch.page_size;
  all.box_rows = !page ? i->tile_keys : page % SM90_SLOT_STEP ? 0 : SM90_SLOT_STEP;
  error = i->key.q_dtype == SPINDLE_BF16 ? encode_maps<bf16>(&all, *i) : encode_maps<f16>(&all, *i);
  if (error) return error;
  return SPINDLE__LAUNCH(i->kernel, dim3((unsigned)params.blocks), i->threads, i->shared_bytes, stream, all);
}

}  // namespace spindle
