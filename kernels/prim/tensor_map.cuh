/* Swizzles of shared memory, and tensor maps, which the host encodes for tma_load. The driver's encoder is asked for at run
 * time, so nothing links libcuda. CUDA Driver API: cuTensorMapEncodeTiled. */
#ifndef SPINDLE_KERNELS_PRIM_TENSOR_MAP_CUH
#define SPINDLE_KERNELS_PRIM_TENSOR_MAP_CUH

#include <type_traits>

namespace spindle::prim {

/* How 16-byte chunks move within rows of 128, 64 or 32 bytes, so that 8 rows of a column lie in different banks. The values are
 * those of a matrix descriptor. */
enum Swizzle { SWIZZLE_NONE = 0, SWIZZLE_128B = 1, SWIZZLE_64B = 2, SWIZZLE_32B = 3 };

/* Bytes of a row; a tile of such rows is aligned to 8 of them. */
__host__ __device__ constexpr uint32_t swizzle_span(Swizzle swizzle) { return swizzle == SWIZZLE_NONE ? 16u : 256u >> swizzle; }

/* Where the byte at `offset` of a tile lies: address bits 4 to 6 (5, 4) are xored with bits 7 to 9 (8, 7). */
__host__ __device__ constexpr uint32_t swizzled(uint32_t offset, Swizzle swizzle) {
  return offset ^ (offset >> 3 & (swizzle_span(swizzle) - 16));
}

/* A tensor of T in global memory, as boxes of it: innermost dimension first, whose stride is sizeof(T). Base and strides are
 * multiples of 16 bytes, strides below 2^40, extents up to 2^32; box extents up to 256, and the inner one fills a swizzle span,
 * or without swizzle is a multiple of 16 bytes. Anything else gives cudaErrorInvalidValue. */
template <class T, int Rank>
cudaError_t encode_tensor_map(CUtensorMap *map, const T *base, const uint64_t (&extent)[Rank],
                              const uint64_t (&stride_bytes)[Rank - 1], const uint32_t (&box)[Rank], Swizzle swizzle) {
  static_assert(Rank >= 2 && Rank <= 5, "dimensions of a tensor map");
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16> || sizeof(T) == 1, "element types");
  using Encode = CUresult (*)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *,
                              const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                              CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  constexpr CUtensorMapDataType type = std::is_same_v<T, bf16>  ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                       : std::is_same_v<T, f16> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                                : CU_TENSOR_MAP_DATA_TYPE_UINT8;
  constexpr CUtensorMapSwizzle modes[] = {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_SWIZZLE_64B,
                                          CU_TENSOR_MAP_SWIZZLE_32B};
  if (swizzle != SWIZZLE_NONE && box[0] * sizeof(T) != swizzle_span(swizzle)) return cudaErrorInvalidValue;

  void *entry = nullptr;
  cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found);
#endif
  if (error != cudaSuccess) return error;
  if (found != cudaDriverEntryPointSuccess || !entry) return cudaErrorNotSupported;

  cuuint64_t extents[Rank], strides[Rank - 1];
  cuuint32_t boxes[Rank], steps[Rank];
  for (int i = 0; i < Rank; ++i) extents[i] = extent[i], boxes[i] = box[i], steps[i] = 1;
  for (int i = 0; i + 1 < Rank; ++i) strides[i] = stride_bytes[i];
  const auto encode = [&] {
    return reinterpret_cast<Encode>(entry)(map, type, Rank, const_cast<T *>(base), extents, strides, boxes, steps,
                                           CU_TENSOR_MAP_INTERLEAVE_NONE, modes[swizzle], CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                                           CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  CUresult result = encode();
  if (result == CUDA_ERROR_INVALID_CONTEXT) { /* a thread that has run nothing yet: choosing its device gives it one */
    int device;
    cudaError_t chosen = cudaGetDevice(&device);
    if (chosen == cudaSuccess) chosen = cudaSetDevice(device);
    if (chosen != cudaSuccess) return chosen;
    result = encode();
  }
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace spindle::prim

#endif
