/* What the checks of sm_90a's primitives share. */
#ifndef EMULATOR_CHECKS_SM90_CUH
#define EMULATOR_CHECKS_SM90_CUH

#include "checks_support.h"

namespace checks_sm90 {

using namespace spindle;

struct Map {
  alignas(1024) bf16 tile[8][64]; /* a B operand of 8 columns, K-major with 128-byte swizzle, or plain data */
  alignas(1024) uint32_t at[256];
  uint64_t barrier, other, third;
};

template <class T>
SPINDLE__DEVICE uint32_t at(const T &object) {
  return prim::shared_address(&object);
}

/* The map, with one barrier that all may use, copies too. */
SPINDLE__DEVICE Map &prepared(uint32_t arrivals, bool fence = true) {
  Map &map = prim::shared<Map>();
  if (prim::thread_index() == 0) {
    prim::mbarrier_init(at(map.barrier), arrivals);
    if (fence) prim::fence_mbarrier_init();
  }
  prim::sync_block();
  return map;
}

/* Word i of the tile. */
SPINDLE__DEVICE uint32_t word(const Map &map, int i) { return at(map.tile) + 4 * (uint32_t)i; }

/* The words as a tensor of 32 rows of 64 bf16, in boxes of 8 rows: a tile, 1024 bytes. */
template <int Rank = 4>
CUtensorMap rows_of(uint32_t *words) {
  CUtensorMap map;
  uint64_t extent[Rank] = {64, 32}, stride[Rank - 1] = {128};
  uint32_t box[Rank] = {64, 8};
  for (int i = 2; i < Rank; ++i) extent[i] = box[i] = 1, stride[i - 1] = 4096;
  if (prim::encode_tensor_map(&map, (bf16 *)words, extent, stride, box, prim::SWIZZLE_128B)) exit(2);
  return map;
}

/* TWINS whose kernels take them, too. */
template <void (*Wrong)(CUtensorMap, uint32_t *), void (*Right)(CUtensorMap, uint32_t *), int Threads>
cudaError_t launch_loads(bool wrong, uint32_t *words) {
  return SPINDLE__LAUNCH(wrong ? Wrong : Right, dim3(1), Threads, sizeof(Map), nullptr, rows_of(words), words);
}
#define LOADS(name, threads, kind) \
  { #name, EMULATOR_##kind, false, launch_loads < name < true>, name < false>, threads> }

}  // namespace checks_sm90

#endif
