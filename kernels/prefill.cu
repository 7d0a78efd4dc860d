/* Chooses, loads and launches an instance of the prefill kernels. */
#include "launch.h"
#include "prefill_sm80.cuh"

namespace spindle {
namespace {

template <class T>
constexpr int32_t DTYPE = 0;
template <>
constexpr int32_t DTYPE<bf16> = SPINDLE_BF16;
template <>
constexpr int32_t DTYPE<f16> = SPINDLE_F16;

struct Instance {
  int32_t dtype, head_dim;
  Keys keys;
  Scores scores;
  void (*kernel)(spindle__attention_params);
  int32_t rows, tile_keys, threads, blocks_per_sm;
  size_t shared_bytes;
};

const Instance instances[] = {
#define SPINDLE__PREFILL(kernel, T, D, keys, scores) \
  {DTYPE<T>,                                         \
   D,                                                \
   Keys::keys,                                       \
   Scores::scores,                                   \
   kernel<T, D, Keys::keys, Scores::scores>,         \
   PrefillTile<D>::ROWS,                             \
   PrefillTile<D>::KEYS,                             \
   PrefillTile<D>::THREADS,                          \
   PrefillTile<D>::BLOCKS,                           \
   sizeof(PrefillSmem<D>)},
#include "instances.def"
};

/* NULL if there is none. */
const Instance *find(const spindle_shape &s, Scores scores) {
  const int32_t dim = max(s.head_dim_qk, s.head_dim_v);
  const Keys keys = s.key_state == SPINDLE_KEYS_RAW ? Keys::RAW : Keys::ROTATED;
  if (s.q_dtype != s.kv_dtype || (s.o_dtype != s.q_dtype && s.o_dtype != SPINDLE_F32)) return nullptr;
  for (const Instance &i : instances)
    if (i.dtype == s.q_dtype && i.head_dim >= dim && i.keys == keys && i.scores == scores) return &i;
  return nullptr;
}

cudaError_t blocks_at_a_time(const Instance &i, int32_t *blocks) {
  int device, processors, shared_bytes;
  cudaError_t error = cudaGetDevice(&device);
  if (!error) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (!error) error = cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  if (error) return error;
  const int fit = shared_bytes / (int)(i.shared_bytes + 1024); /* CUDA keeps 1 KiB a block */
  *blocks = processors * max(1, min(fit, i.blocks_per_sm));
  return cudaSuccess;
}

}  // namespace
}  // namespace spindle

extern "C" int spindle__prefill_find(const spindle_shape *shape, spindle__prefill_info *info) {
  using namespace spindle;
  *info = {};
  for (Scores scores : {Scores::PLAIN, Scores::GENERAL}) {
    const Instance *i = find(*shape, scores);
    if (!i) return cudaSuccess;
    cudaError_t error = prim::allow_shared(i->kernel, i->shared_bytes);
    int32_t blocks = 0;
    if (!error) error = blocks_at_a_time(*i, &blocks);
    if (error) return error;
    *info = {i->rows, i->tile_keys, blocks, i->head_dim};
  }
  return cudaSuccess;
}

extern "C" int spindle__launch_prefill(const spindle__attention_params *params, spindle_stream stream) {
  using namespace spindle;
  const bool general = params->shape.bias != SPINDLE_BIAS_NONE || params->args.softcap > 0.0f;
  const Instance *i = find(params->shape, general ? Scores::GENERAL : Scores::PLAIN);
  if (!i) return cudaErrorInvalidValue;
  return SPINDLE__LAUNCH(i->kernel, dim3((unsigned)params->blocks), i->threads, i->shared_bytes, stream, *params);
}
