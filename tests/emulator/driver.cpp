// Tensor maps, and how the runtime finds their encoder.
#include <algorithm>
#include <cstring>

#include "cuda.h"
#include "cuda_runtime_api.h"
#include "runtime.h"
#include "tensor_map.h"

namespace emulator {

static int element_bytes(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8: return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16: return 2;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32: return 4;
  }
  return 0;
}

// One dimension, by the driver's rules; the rows of a box are as long as the swizzle's, or else nobody has told what shared
// memory looks like.
static bool set_dimension(TensorMap *map, int i, uint64_t extent, uint64_t stride, uint32_t box) {
  if (!extent || extent > (uint64_t)1 << 32 || !box || box > 256) return false;
  if (i && (stride % 16 || stride >= (uint64_t)1 << 40)) return false;
  map->last[i] = (uint32_t)(extent - 1);
  map->stride[i] = stride;
  map->box[i] = (uint16_t)box;
  return true;
}

}  // namespace emulator

using namespace emulator;

CUresult cuTensorMapEncodeTiled(CUtensorMap *to, CUtensorMapDataType type, cuuint32_t rank, void *base, const cuuint64_t *extents,
                                const cuuint64_t *strides, const cuuint32_t *box, const cuuint32_t *element_strides,
                                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                                CUtensorMapFloatOOBfill) {
  TensorMap map = {};
  map.magic = TENSOR_MAP_MAGIC;
  map.base = (char *)base;
  map.rank = (uint8_t)rank;
  map.span = (uint8_t)(16 << swizzle);
  const int element = element_bytes(type);
  if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
  if (!element || rank < 1 || rank > 5 || (uintptr_t)to % 64 || (uintptr_t)base % 16 ||
      interleave != CU_TENSOR_MAP_INTERLEAVE_NONE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (int i = 0; i < (int)rank; ++i) {
    if (element_strides[i] != 1) return CUDA_ERROR_INVALID_VALUE;
    if (!set_dimension(&map, i, extents[i], i ? strides[i - 1] : (uint64_t)element, box[i])) return CUDA_ERROR_INVALID_VALUE;
  }
  const uint32_t inner = box[0] * (uint32_t)element;
  if (inner % 16 || (swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && inner != map.span)) return CUDA_ERROR_INVALID_VALUE;
  memset(to, 0, sizeof *to);
  memcpy(to, &map, sizeof map);
  return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPoint(const char *symbol, void **function, unsigned long long,
                                    cudaDriverEntryPointQueryResult *result) {
  const bool known = !strcmp(symbol, "cuTensorMapEncodeTiled");
  *function = known ? (void *)cuTensorMapEncodeTiled : nullptr;
  if (result) *result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return status(cudaSuccess);
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version, unsigned long long flags,
                                             cudaDriverEntryPointQueryResult *result) {
  const cudaError_t error = cudaGetDriverEntryPoint(symbol, function, flags, result);
  if (*function && version < 12000) {
    *function = nullptr;
    if (result) *result = cudaDriverEntryPointVersionNotSufficent;
  }
  return error;
}
