/* Barriers in shared memory that threads and bulk copies arrive at. sm_90.
 *
 * An mbarrier is an 8-byte object (uint64_t in the map of shared memory, touched by nothing else). It counts phases from 0. A
 * phase ends when all its arrivals have been made and its transaction count, the bytes announced less the bytes landed, is 0; the
 * next one expects the same arrivals. Whoever waits for a phase sees what the arriving threads had seen and written, and what the
 * copies have landed.
 * PTX ISA: Parallel Synchronization and Communication, mbarrier. */
#ifndef SPINDLE_KERNELS_PRIM_MBARRIER_CUH
#define SPINDLE_KERNELS_PRIM_MBARRIER_CUH

namespace spindle::prim {

/* By one thread, once a launch; arrivals in 1 to 2^20 - 1. Other threads may use the barrier after a sync_block, bulk copies
 * after a fence_mbarrier_init before it. mbarrier.init. */
SPINDLE__DEVICE void mbarrier_init(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

/* Makes the calling thread's mbarrier_inits visible to the async proxy. fence.mbarrier_init. */
SPINDLE__DEVICE void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

/* One arrival at the current phase. mbarrier.arrive, release. */
SPINDLE__DEVICE void mbarrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/* Announces bytes that copies will land in the current phase, then arrives. mbarrier.arrive.expect_tx. */
SPINDLE__DEVICE void mbarrier_arrive_expect_tx(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/* Waits until the phase of this parity (0 for phases 0, 2, ...) has ended: passes at once iff the current phase has the other
 * parity. So a first wait with parity 1 passes on a fresh barrier. The caller is never two phases behind. try_wait may give up
 * early, hence the loop. mbarrier.try_wait.parity, acquire. */
SPINDLE__DEVICE void mbarrier_wait(uint32_t barrier, uint32_t parity) {
  uint32_t ended;
  do {
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}"
                 : "=r"(ended)
                 : "r"(barrier), "r"(parity)
                 : "memory");
  } while (!ended);
}

}  // namespace spindle::prim

#endif
