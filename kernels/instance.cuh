/* How an instance is found for a shape, and how many of its blocks a device runs at a time. */
#ifndef SPINDLE_KERNELS_INSTANCE_CUH
#define SPINDLE_KERNELS_INSTANCE_CUH

#include "scores.cuh"

namespace spindle {

template <class T>
constexpr int32_t DTYPE = 0;
template <>
constexpr int32_t DTYPE<bf16> = SPINDLE_BF16;
template <>
constexpr int32_t DTYPE<f16> = SPINDLE_F16;
template <>
constexpr int32_t DTYPE<e4m3> = SPINDLE_F8E4M3;

/* What instances.def says of an instance. */
struct InstanceKey {
  int32_t q_dtype, kv_dtype, head_dim;
  Scores scores; /* GENERAL serves plain ones too */
  int32_t head_dim_v = head_dim;
};

/* The first that serves the shape: head dims ascend, and of each PLAIN comes first. NULL: none does. */
template <class Instance, int Count>
const Instance *find_instance(const Instance (&instances)[Count], const spindle_shape &s, Scores scores) {
  if (s.o_dtype != s.q_dtype && s.o_dtype != SPINDLE_F32) return nullptr;
  for (const Instance &i : instances)
    if (i.key.q_dtype == s.q_dtype && i.key.kv_dtype == s.kv_dtype && i.key.head_dim >= s.head_dim_qk &&
        i.key.head_dim_v >= s.head_dim_v && (i.key.scores == Scores::GENERAL || scores == Scores::PLAIN))
      return &i;
  return nullptr;
}

/* most: that a multiprocessor holds by their registers. */
inline cudaError_t blocks_at_a_time(size_t shared_bytes, int most, int32_t *blocks) {
  int device, processors, per_processor;
  cudaError_t error = cudaGetDevice(&device);
  if (!error) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (!error) error = cudaDeviceGetAttribute(&per_processor, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  if (error) return error;
  const int fit = per_processor / (int)(shared_bytes + 1024); /* CUDA keeps 1 KiB a block */
  *blocks = processors * max(1, min(fit, most));
  return cudaSuccess;
}

}  // namespace spindle

#endif
