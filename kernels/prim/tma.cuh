/* Copies of boxes of tensors from global to shared memory by the async proxy. One thread issues a copy; sm_90.
 *
 * The async proxy (these copies, and wgmma reading its operands) does not see what threads have written to shared memory until a
 * fence_proxy_async of theirs; the barrier that tells others comes after it. What a copy has landed, threads see after waiting.
 *
 * A copy ends at an mbarrier of the block: the bytes of the whole box, zeros included, count against what
 * mbarrier_arrive_expect_tx has announced there.
 * PTX ISA: Data Movement and Conversion, asynchronous copy (tensor); fence.proxy under Parallel Synchronization and
 * Communication. A block's own addresses are valid as .shared::cluster ones. */
#ifndef SPINDLE_KERNELS_PRIM_TMA_CUH
#define SPINDLE_KERNELS_PRIM_TMA_CUH

namespace spindle::prim {

/* Whether the code being compiled may copy so. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr bool BULK_COPIES = false;
#else
constexpr bool BULK_COPIES = true;
#endif

/* Orders the shared memory accesses that the calling thread has made or seen before the async proxy's after it.
 * fence.proxy.async. */
SPINDLE__DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/* Fetches the tensor map ahead of the first copy. prefetch.tensormap. */
SPINDLE__DEVICE void prefetch_tensor_map(const CUtensorMap &map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/* Loads the box of `map`, which has four dimensions, whose first element has coordinates `at`, innermost first, signed; what lies
 * outside the tensor is zero. `map` is a __grid_constant__ parameter or part of one. `to` is a multiple of 128 bytes, and of 8
 * swizzle spans (1024, 512, 256): the pattern goes by address bits. cp.async.bulk.tensor, tile mode. */
SPINDLE__DEVICE void tma_load(uint32_t to, const CUtensorMap &map, const int (&at)[4], uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3])
      : "memory");
}

}  // namespace spindle::prim

#endif
