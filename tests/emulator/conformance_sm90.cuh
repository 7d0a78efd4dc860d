/* The kernels of conformance.cuh for primitives that need sm_90a. */
#ifndef EMULATOR_CONFORMANCE_SM90_CUH
#define EMULATOR_CONFORMANCE_SM90_CUH

#include "prim/prim.cuh"

namespace conformance {

using namespace spindle;

/* Warp 0 fills, warp 1 drains. On a fresh barrier a wait with parity 1 passes, so the first round needs no exception. */
__global__ void mbarriers(uint32_t *out) {
  struct Map {
    uint64_t full, empty;
    uint32_t at[32];
  };
  Map &map = prim::shared<Map>();
  const uint32_t full = prim::shared_address(&map.full), empty = prim::shared_address(&map.empty);
  const int lane = prim::lane();
  if (prim::thread_index() == 0) {
    prim::mbarrier_init(full, 32);
    prim::mbarrier_init(empty, 1);
  }
  prim::sync_block();
  for (uint32_t round = 0; round < 5; ++round) {
    if (prim::warp() == 0) {
      prim::mbarrier_wait(empty, (round & 1) ^ 1);
      map.at[lane] = round * 100 + (uint32_t)lane;
      prim::mbarrier_arrive(full);
    } else {
      prim::mbarrier_wait(full, round & 1);
      out[round * 32 + (uint32_t)lane] = map.at[lane ^ 3];
      prim::sync_warp();
      if (lane == 0) prim::mbarrier_arrive(empty);
    }
  }
}

/* The first warpgroup gives 384 threads' worth of registers away, which the two others need. */
__global__ void __launch_bounds__(384, 1) registers(uint32_t *out) {
  if (prim::warp() < 4) {
    prim::setmaxnreg_dec<40>();
  } else {
    prim::setmaxnreg_inc<232>();
  }
  out[prim::thread_index()] = (uint32_t)prim::thread_index() * 3;
}

struct Box {
  int at[4];
  uint32_t bytes;
};
/* Loads a box over 0xee, twice, and shows shared memory as it is. */
__global__ void tma_load(const __grid_constant__ CUtensorMap map, Box box, uint32_t *out) {
  struct Map {
    uint32_t tile[4096];
    uint64_t full;
  };
  Map &smem = prim::shared<Map>();
  const uint32_t full = prim::shared_address(&smem.full);
  if (prim::lane() == 0) {
    prim::mbarrier_init(full, 1);
    prim::fence_mbarrier_init();
    prim::prefetch_tensor_map(map);
  }
  for (uint32_t round = 0; round < 2; ++round) {
    for (uint32_t i = (uint32_t)prim::lane(); i < 4096; i += 32) smem.tile[i] = 0xeeeeeeeeu;
    prim::fence_proxy_async();
    prim::sync_warp();
    if (prim::lane() == 0) {
      prim::mbarrier_arrive_expect_tx(full, box.bytes);
      prim::tma_load(prim::shared_address(smem.tile), map, box.at, full);
    }
    prim::mbarrier_wait(full, round);
  }
  for (uint32_t i = (uint32_t)prim::lane(); i < 4096; i += 32) out[i] = smem.tile[i];
}

/* A tile of Boxes x Panels boxes of box_bytes, panel by panel, as kernels load theirs: a lane of warp 0 a box, from where
 * places[box] says, and the bytes announced by one of them. The phase takes an arrival of warp 1 too, which may come first. */
struct BoxPlace {
  int row, page;
};
template <int Boxes, int Panels>
__global__ void tma_boxes(const __grid_constant__ CUtensorMap map, const BoxPlace *places, int head, int width,
                          uint32_t box_bytes, uint32_t *out) {
  struct Map {
    alignas(1024) uint32_t tile[4096];
    uint64_t full;
  };
  Map &smem = prim::shared<Map>();
  const uint32_t full = prim::shared_address(&smem.full);
  if (prim::thread_index() == 0) {
    prim::mbarrier_init(full, 2);
    prim::fence_mbarrier_init();
  }
  prim::sync_block();
  const int box = prim::lane() / Panels, panel = prim::lane() % Panels;
  if (prim::warp() == 1) {
    if (prim::lane() == 0) prim::mbarrier_arrive(full);
  } else {
    if (prim::lane() == 0) prim::mbarrier_arrive_expect_tx(full, Boxes * Panels * box_bytes);
    prim::sync_warp();
    if (box < Boxes)
      prim::tma_load(prim::shared_address(smem.tile) + (uint32_t)(panel * Boxes + box) * box_bytes, map,
                     {panel * width, places[box].row, head, places[box].page}, full);
  }
  prim::mbarrier_wait(full, 0);
  for (uint32_t i = (uint32_t)prim::thread_index(); i < Boxes * Panels * box_bytes / 4; i += 64) out[i] = smem.tile[i];
}

/* Operands come as pictures of shared memory. A descriptor each; a step of 16 k moves it by Step bytes. */
template <prim::Swizzle Pattern, uint32_t Leading_, uint32_t Stride_, uint32_t Step_, uint32_t Bytes_>
struct Layout {
  static constexpr prim::Swizzle SWIZZLE = Pattern;
  static constexpr uint32_t LEADING = Leading_, STRIDE = Stride_, STEP = Step_, BYTES = Bytes_;
};
template <class A, class B>
struct OperandMap {
  alignas(1024) uint4 a[A::BYTES / 16];
  alignas(1024) uint4 b[B::BYTES / 16];
};
template <class L>
SPINDLE__DEVICE uint64_t descriptor_of(const uint4 *shared) {
  return prim::matrix_descriptor<L::SWIZZLE, L::LEADING, L::STRIDE>(prim::shared_address(shared));
}
template <class L>
SPINDLE__DEVICE void place(uint4 *shared, const uint4 *image) {
  const uint32_t to = prim::shared_address(shared);
  for (uint32_t i = (uint32_t)prim::thread_index(); i < L::BYTES / 16; i += 128) prim::st_shared(to + 16 * i, image[i]);
}
/* The same in the background: a thread's wait, then its fence, then the barrier. */
template <class L>
SPINDLE__DEVICE void copy(uint4 *shared, const uint4 *image) {
  const uint32_t to = prim::shared_address(shared);
  for (uint32_t i = (uint32_t)prim::thread_index(); i < L::BYTES / 16; i += 128) prim::cp_async<16>(to + 16 * i, image + i);
  prim::cp_async_wait_all();
}

/* D = A B + D over Steps k-steps; d is [thread][N / 2]. */
template <class T, int N, int Steps, class A, class B>
__global__ void __launch_bounds__(128, 1) wgmma_ss(const uint4 *a, const uint4 *b, float *d) {
  OperandMap<A, B> &map = prim::shared<OperandMap<A, B>>();
  const uint64_t from_a = descriptor_of<A>(map.a), from_b = descriptor_of<B>(map.b);
  place<A>(map.a, a);
  place<B>(map.b, b);
  prim::fence_proxy_async();
  prim::sync_block();
  float z[N / 8][4];
  SPINDLE__UNROLL
  for (int i = 0; i < N / 2; ++i) z[i / 4][i % 4] = d[prim::thread_index() * (N / 2) + i];
  prim::pin(z);
  prim::wgmma_fence(z);
  SPINDLE__UNROLL
  for (int k = 0; k < Steps; ++k) {
    const uint32_t step = (uint32_t)k;
    prim::wgmma<T>(z, prim::advance_descriptor(from_a, step * A::STEP), prim::advance_descriptor(from_b, step * B::STEP), true);
  }
  prim::wgmma_commit();
  prim::wgmma_wait<0>(z);
  SPINDLE__UNROLL
  for (int i = 0; i < N / 2; ++i) d[prim::thread_index() * (N / 2) + i] = z[i / 4][i % 4];
}

/* D = A B with A from registers, [thread][step][4], in two groups: the second, of the same operands, adds to its D. */
template <class T, int N, int Steps, class B, prim::Major Order>
__global__ void __launch_bounds__(128, 1) wgmma_rs(const uint32_t *a, const uint4 *b, float *d) {
  OperandMap<Layout<prim::SWIZZLE_NONE, 16, 16, 0, 16>, B> &map =
      prim::shared<OperandMap<Layout<prim::SWIZZLE_NONE, 16, 16, 0, 16>, B>>();
  const uint64_t from_b = descriptor_of<B>(map.b);
  copy<B>(map.b, b);
  prim::fence_proxy_async();
  prim::sync_block();
  const int t = prim::thread_index();
  uint32_t x[Steps][4];
  float y[N / 8][4], z[N / 8][4];
  SPINDLE__UNROLL
  for (int i = 0; i < Steps * 4; ++i) x[i / 4][i % 4] = a[t * Steps * 4 + i];
  SPINDLE__UNROLL
  for (int i = 0; i < N / 2; ++i) z[i / 4][i % 4] = d[t * (N / 2) + i];
  prim::wgmma_fence(x, y);
  SPINDLE__UNROLL
  for (int k = 0; k < Steps; ++k) prim::wgmma<T, Order>(y, x[k], prim::advance_descriptor(from_b, (uint32_t)k * B::STEP), k != 0);
  prim::wgmma_commit();
  prim::wgmma_fence(x, z);
  SPINDLE__UNROLL
  for (int k = 0; k < Steps; ++k) prim::wgmma<T, Order>(z, x[k], prim::advance_descriptor(from_b, (uint32_t)k * B::STEP), true);
  prim::wgmma_commit();
  prim::wgmma_wait<1>(y);
  SPINDLE__UNROLL
  for (int i = 0; i < N / 2; ++i) d[128 * (N / 2) + t * (N / 2) + i] = y[i / 4][i % 4];
  prim::wgmma_wait<0>(z);
  SPINDLE__UNROLL
  for (int i = 0; i < N / 2; ++i) d[t * (N / 2) + i] = z[i / 4][i % 4];
}

}  // namespace conformance

#endif
