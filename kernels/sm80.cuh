/* What the launcher of the sm_80 kernel and its parts, which are compiled side by side, agree on. */
#ifndef SPINDLE_KERNELS_SM80_CUH
#define SPINDLE_KERNELS_SM80_CUH

#include "instance.cuh"

namespace spindle {

struct Sm80Instance {
  InstanceKey key;
  void (*kernel)(spindle__attention_params);
  int32_t rows, tile_keys, threads, blocks_per_sm;
  size_t shared_bytes;
};

/* What a part has for a shape, or NULL: prefill_sm80_bf16.cu, ... */
const Sm80Instance *find_sm80_bf16(const spindle_shape &shape, Scores scores);
const Sm80Instance *find_sm80_f16(const spindle_shape &shape, Scores scores);
const Sm80Instance *find_sm80_bf16_e4m3(const spindle_shape &shape, Scores scores);
const Sm80Instance *find_sm80_f16_e4m3(const spindle_shape &shape, Scores scores);

/* As spindle__prefill_find and spindle__launch_prefill. *info is left alone if the shape is not for this kernel. */
cudaError_t find_prefill_sm80(const spindle_shape &shape, spindle__kernel_info *info);
/* *served: whether it is, and has been launched. */
cudaError_t launch_prefill_sm80(const spindle__attention_params &params, spindle_stream stream, bool *served);

}  // namespace spindle

/* A row of a table of parts. E: type of K and V. */
#define SPINDLE__SM80_INSTANCE(kernel, T, E, D, scores) \
  {{DTYPE<T>, DTYPE<E>, D, Scores::scores},             \
   kernel<T, D, Scores::scores>,                        \
   PrefillTile<D>::ROWS,                                \
   PrefillTile<D>::KEYS,                                \
   PrefillTile<D>::THREADS,                             \
   PrefillTile<D>::BLOCKS,                              \
   sizeof(PrefillSmem<D>)},

#endif
