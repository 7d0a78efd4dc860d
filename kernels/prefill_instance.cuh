/* The table of sm_80 prefill kernels, in parts that are compiled side by side. */
#ifndef SPINDLE_KERNELS_PREFILL_INSTANCE_CUH
#define SPINDLE_KERNELS_PREFILL_INSTANCE_CUH

#include "instance.cuh"

namespace spindle {

struct PrefillInstance {
  InstanceKey key;
  void (*kernel)(spindle__attention_params);
  int32_t rows, tile_keys, threads, blocks_per_sm;
  size_t shared_bytes;
};

/* What a part has for a shape, or NULL: prefill_sm80_bf16.cu, ... */
const PrefillInstance *find_prefill_bf16(const spindle_shape &shape, Scores scores);
const PrefillInstance *find_prefill_f16(const spindle_shape &shape, Scores scores);
const PrefillInstance *find_prefill_bf16_e4m3(const spindle_shape &shape, Scores scores);
const PrefillInstance *find_prefill_f16_e4m3(const spindle_shape &shape, Scores scores);

}  // namespace spindle

/* A row of such a table. E: type of K and V. */
#define SPINDLE__PREFILL_INSTANCE(kernel, T, E, D, keys, scores) \
  {{DTYPE<T>, DTYPE<E>, D, Keys::keys, Scores::scores},          \
   kernel<T, D, Keys::keys, Scores::scores>,                     \
   PrefillTile<D>::ROWS,                                         \
   PrefillTile<D>::KEYS,                                         \
   PrefillTile<D>::THREADS,                                      \
   PrefillTile<D>::BLOCKS,                                       \
   sizeof(PrefillSmem<D>)},

#endif
