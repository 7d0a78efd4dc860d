/* What the launcher of the Hopper kernel and its parts, which are compiled side by side, agree on. */
#ifndef SPINDLE_KERNELS_SM90_CUH
#define SPINDLE_KERNELS_SM90_CUH

#include "boxes.cuh"
#include "instance.cuh"

namespace spindle {

struct Sm90Params {
  spindle__attention_params attention;
  CacheBoxes boxes;
  CUtensorMap rotated;
};

struct Sm90Instance {
  InstanceKey key;
  void (*kernel)(Sm90Params);
  int32_t rows, tile_keys, threads, most_box_rows;
  BoxShape box, rotated; /* of the cache's K and V; of pre-rotated keys */
  size_t shared_bytes;
};

/* What a part has for a shape, or NULL: prefill_sm90_bf16.cu, ... */
const Sm90Instance *find_sm90_bf16(const spindle_shape &shape, Scores scores);
const Sm90Instance *find_sm90_f16(const spindle_shape &shape, Scores scores);
const Sm90Instance *find_sm90_bf16_e4m3(const spindle_shape &shape, Scores scores);
const Sm90Instance *find_sm90_f16_e4m3(const spindle_shape &shape, Scores scores);

/* As spindle__prefill_find and spindle__launch_prefill. *info is left alone if the device or the shape is not for this kernel. */
cudaError_t find_prefill_sm90(const spindle_shape &shape, spindle__kernel_info *info);
/* *served: whether it is, and has been launched. */
cudaError_t launch_prefill_sm90(const spindle__attention_params &params, spindle_stream stream, bool *served);

}  // namespace spindle

/* A row of a table of parts. E: type of K and V; e4m3 lands unswizzled, to be expanded. */
#define SPINDLE__SM90_INSTANCE(kernel, T, E, D, DV, scores)                                  \
  {{DTYPE<T>, DTYPE<E>, D, Scores::scores, DV},                                              \
   kernel<T, D, DV, Scores::scores>,                                                         \
   Sm90Tile<D, DV, Scores::scores>::ROWS,                                                    \
   Sm90Tile<D, DV, Scores::scores>::KEYS,                                                    \
   Sm90Tile<D, DV, Scores::scores>::THREADS,                                                 \
   Sm90Tile<D, DV, Scores::scores>::MOST_BOX,                                                \
   {Sm90Tile<D, DV, Scores::scores>::K::WIDTH,                                               \
    sizeof(E) == 1 ? prim::SWIZZLE_NONE : Sm90Tile<D, DV, Scores::scores>::K::SWIZZLE},      \
   {Sm90Tile<D, DV, Scores::scores>::K::WIDTH, Sm90Tile<D, DV, Scores::scores>::K::SWIZZLE}, \
   sizeof(Sm90Smem<D, DV, Scores::scores>)},

#endif
