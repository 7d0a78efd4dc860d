/* Exchange within a warp. Every lane of `mask` executes the same call; the lane that calls is in `mask`.
 * PTX ISA: shfl under Data Movement and Conversion, the others under Parallel Synchronization and Communication. */
#ifndef SPINDLE_KERNELS_PRIM_WARP_CUH
#define SPINDLE_KERNELS_PRIM_WARP_CUH

namespace spindle::prim {

constexpr uint32_t ALL_LANES = 0xffffffffu;

/* Orders shared and global memory among the lanes of mask. Lanes are not in step without it. bar.warp.sync. */
SPINDLE__DEVICE void sync_warp(uint32_t mask = ALL_LANES) { __syncwarp(mask); }

/* The value of lane `lane ^ x`. 32-bit types. shfl.sync.bfly. */
template <class T>
SPINDLE__DEVICE T shfl_xor(T value, int x, uint32_t mask = ALL_LANES) {
  static_assert(sizeof(T) == 4, "one register");
  return __shfl_xor_sync(mask, value, x);
}

/* The value of lane `from & 31`, which is in mask. 32-bit types. shfl.sync.idx. */
template <class T>
SPINDLE__DEVICE T shfl(T value, int from, uint32_t mask = ALL_LANES) {
  static_assert(sizeof(T) == 4, "one register");
  return __shfl_sync(mask, value, from);
}

/* Bit l is set iff lane l of mask passes a true predicate. vote.sync.ballot. */
SPINDLE__DEVICE uint32_t ballot(bool predicate, uint32_t mask = ALL_LANES) { return __ballot_sync(mask, predicate); }

/* Whether any lane of mask does. vote.sync.any. */
SPINDLE__DEVICE bool any(bool predicate, uint32_t mask = ALL_LANES) { return __any_sync(mask, predicate) != 0; }

}  // namespace spindle::prim

#endif
