/* Barriers of a block. They order shared and global memory among the threads that take part.
 * PTX ISA: Parallel Synchronization and Communication. */
#ifndef SPINDLE_KERNELS_PRIM_BARRIER_CUH
#define SPINDLE_KERNELS_PRIM_BARRIER_CUH

namespace spindle::prim {

/* All threads of the block, none exited. bar.sync 0. */
SPINDLE__DEVICE void sync_block() { __syncthreads(); }

/* Waits until `threads` threads (a multiple of 32, the same for all) have arrived at barrier `id` (1 to 15; 0 is sync_block's).
 * Every lane of a warp that takes part calls it. bar.sync a, b. */
SPINDLE__DEVICE void bar_sync(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

/* Arrives without waiting: what the caller wrote before is seen by those who bar_sync on `id`. bar.arrive. */
SPINDLE__DEVICE void bar_arrive(int id, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

}  // namespace spindle::prim

#endif
