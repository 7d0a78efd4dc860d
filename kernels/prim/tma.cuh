/* Bulk copies between global and shared memory by the async proxy. One thread issues a copy; sm_90. Addresses and sizes are
 * multiples of 16 bytes.
 *
 * The async proxy (bulk copies, and wgmma reading its operands) does not see what threads have written to shared memory until a
 * fence_proxy_async of theirs; the barrier that tells others comes after it. What a copy has landed, threads see after waiting.
 *
 * Loads end at an mbarrier of the block: the bytes of the whole box, zeros included, count against what mbarrier_arrive_expect_tx
 * has announced there. Stores are collected in groups of their thread.
 * PTX ISA: Data Movement and Conversion, asynchronous copy (bulk, tensor); fence.proxy under Parallel Synchronization and
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

/* cp.async.bulk.tensor of each rank, tile mode. */
#define SPINDLE__TENSOR_LOAD(name, rank, coordinates, ...)                                                                    \
  SPINDLE__DEVICE void name(uint32_t to, const CUtensorMap &map, const int(&at)[rank], uint32_t barrier) {                    \
    asm volatile("cp.async.bulk.tensor." #rank                                                                                \
                 "d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {" coordinates "}], [%2];" ::"r"(to), \
                 "l"(&map), "r"(barrier), __VA_ARGS__                                                                         \
                 : "memory");                                                                                                 \
  }
#define SPINDLE__TENSOR_STORE(name, rank, coordinates, ...)                                              \
  SPINDLE__DEVICE void name(const CUtensorMap &map, const int(&at)[rank], uint32_t from) {               \
    asm volatile("cp.async.bulk.tensor." #rank "d.global.shared::cta.tile.bulk_group [%0, {" coordinates \
                 "}], [%1];" ::"l"(&map),                                                                \
                 "r"(from), __VA_ARGS__                                                                  \
                 : "memory");                                                                            \
  }
SPINDLE__TENSOR_LOAD(tensor_load, 1, "%3", "r"(at[0]))
SPINDLE__TENSOR_LOAD(tensor_load, 2, "%3, %4", "r"(at[0]), "r"(at[1]))
SPINDLE__TENSOR_LOAD(tensor_load, 3, "%3, %4, %5", "r"(at[0]), "r"(at[1]), "r"(at[2]))
SPINDLE__TENSOR_LOAD(tensor_load, 4, "%3, %4, %5, %6", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]))
SPINDLE__TENSOR_LOAD(tensor_load, 5, "%3, %4, %5, %6, %7", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]))
SPINDLE__TENSOR_STORE(tensor_store, 1, "%2", "r"(at[0]))
SPINDLE__TENSOR_STORE(tensor_store, 2, "%2, %3", "r"(at[0]), "r"(at[1]))
SPINDLE__TENSOR_STORE(tensor_store, 3, "%2, %3, %4", "r"(at[0]), "r"(at[1]), "r"(at[2]))
SPINDLE__TENSOR_STORE(tensor_store, 4, "%2, %3, %4, %5", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]))
SPINDLE__TENSOR_STORE(tensor_store, 5, "%2, %3, %4, %5, %6", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]))
#undef SPINDLE__TENSOR_LOAD
#undef SPINDLE__TENSOR_STORE

/* Loads the box of `map` whose first element has coordinates `at`, innermost first, signed; what lies outside the tensor is zero.
 * `map` is a __grid_constant__ parameter or part of one. `to` is a multiple of 128 bytes, and of 8 swizzle spans (1024, 512,
 * 256): the pattern goes by address bits. cp.async.bulk.tensor. */
template <int Rank>
SPINDLE__DEVICE void tma_load(uint32_t to, const CUtensorMap &map, const int (&at)[Rank], uint32_t barrier) {
  tensor_load(to, map, at, barrier);
}

/* Stores a box, swizzled in shared memory as a load would leave it; what lies outside the tensor is left out.
 * cp.async.bulk.tensor. */
template <int Rank>
SPINDLE__DEVICE void tma_store(const CUtensorMap &map, const int (&at)[Rank], uint32_t from) {
  tensor_store(map, at, from);
}

/* The same for `bytes` in a row, with no tensor map. cp.async.bulk. */
SPINDLE__DEVICE void bulk_load(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from),
               "r"(bytes), "r"(barrier)
               : "memory");
}
SPINDLE__DEVICE void bulk_store(void *to, uint32_t from, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}

/* Closes a group of all stores of this thread that are in none yet. cp.async.bulk.commit_group. */
SPINDLE__DEVICE void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

/* Waits until all but the newest Pending groups of this thread are done, or, with _read, have read their shared memory, which may
 * be written again then. A thread that has stored waits for that much before it ends. cp.async.bulk.wait_group{.read}. */
template <int Pending>
SPINDLE__DEVICE void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(Pending) : "memory");
}
template <int Pending>
SPINDLE__DEVICE void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
}

}  // namespace spindle::prim

#endif
