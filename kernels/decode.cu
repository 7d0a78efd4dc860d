/* Chooses, loads and launches an instance of the decode kernel. */
#include "decode_instance.cuh"

namespace spindle {
namespace {

const DecodeInstance instances[] = {
#define SPINDLE__DECODE(kernel, T, D) SPINDLE__DECODE_INSTANCE(kernel, T, T, D)
#include "instances.def"
};

/* NULL if there is none. */
const DecodeInstance *find_decode(const spindle_shape &shape) {
  const DecodeInstance *i = find_instance(instances, shape, Scores::GENERAL);
  return i ? i : find_decode_e4m3(shape);
}

/* As many warps as a block's shared memory has room for. The same on all devices of a kind: how sums are merged depends on it. */
cudaError_t fit(const DecodeInstance &i, int *warps, size_t *bytes) {
  int device, most;
  cudaError_t error = cudaGetDevice(&device);
  if (!error) error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error) return error;
  *warps = min(DECODE_MOST_WARPS, 1 + (int)(((size_t)most - i.shared_bytes) / i.warp_bytes));
  *bytes = i.shared_bytes + (size_t)(*warps - 1) * i.warp_bytes;
  return cudaSuccess;
}

/* Boxes as high as the tile's or the page's rows allow. */
cudaError_t cut_tile_boxes(DecodeParams *params, const DecodeInstance &i) {
  int device, major;
  cudaError_t error = cudaGetDevice(&device);
  if (!error) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error || major < 9) return error;
  cut_boxes(&params->boxes, params->attention, i.tile_keys, i.tile_keys, i.box);
  return cudaSuccess;
}

}  // namespace
}  // namespace spindle

extern "C" int spindle__decode_find(const spindle_shape *shape, spindle__kernel_info *info) {
  using namespace spindle;
  *info = {};
  const DecodeInstance *i = find_decode(*shape);
  if (!i) return cudaSuccess;
  int warps;
  size_t bytes;
  int32_t blocks = 0;
  cudaError_t error = fit(*i, &warps, &bytes);
  if (!error) error = prim::allow_shared(i->kernel, bytes);
  if (!error) error = blocks_at_a_time(bytes, 65536 / (32 * warps * 255), &blocks);
  if (!error) *info = {0, 0, i->key.head_dim, blocks};
  return error;
}

extern "C" int spindle__launch_decode(const spindle__attention_params *params, spindle_stream stream) {
  using namespace spindle;
  const DecodeInstance *i = find_decode(params->shape);
  if (!i) return cudaErrorInvalidValue;
  int warps;
  size_t bytes;
  DecodeParams all = {};
  all.attention = *params;
  cudaError_t error = fit(*i, &warps, &bytes);
  if (!error) error = cut_tile_boxes(&all, *i);
  if (error) return error;
  return SPINDLE__LAUNCH(i->kernel, dim3((unsigned)params->blocks), 32 * warps, bytes, stream, all);
}
