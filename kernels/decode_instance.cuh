/* The table of decode kernels, in parts that are compiled side by side. */
#ifndef SPINDLE_KERNELS_DECODE_INSTANCE_CUH
#define SPINDLE_KERNELS_DECODE_INSTANCE_CUH

#include "decode.cuh"
#include "instance.cuh"

namespace spindle {

struct DecodeInstance {
  InstanceKey key;
  void (*kernel)(DecodeParams);
  size_t shared_bytes, warp_bytes; /* with one warp; of each */
  int32_t tile_keys;
  BoxShape box;
};

/* What decode_e4m3.cu has for a shape, or NULL. */
const DecodeInstance *find_decode_e4m3(const spindle_shape &shape);

}  // namespace spindle

/* A row of such a table. E: type of K and V. */
#define SPINDLE__DECODE_INSTANCE(kernel, T, E, D) \
  {{DTYPE<T>, DTYPE<E>, D, Scores::GENERAL},      \
   kernel<T, D>,                                  \
   sizeof(DecodeSmem<D>),                         \
   sizeof(DecodeWarp<D>),                         \
   DecodeTile<D>::KEYS,                           \
   {DecodeTile<D>::K::WIDTH, sizeof(E) == 1 ? prim::SWIZZLE_NONE : DecodeTile<D>::K::SWIZZLE}},

#endif
