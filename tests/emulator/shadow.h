// Who wrote and read each cell of shared memory, and whether the one who touches it now is ordered after them.
//
// Vector clocks: a fiber's clock[t] is the last moment of thread t that happened before now. Barriers release (join the fiber's
// clock into the barrier's, then step the fiber's own) and acquire (join back). An access by t at moment c is ordered before a
// fiber f iff c <= f.clock[t]. Entries past the threads stand for whole warps, for reads that a warp makes as one (ldmatrix).
//
// Of reads, the last of each warp is kept: a race with an earlier one of another lane can be missed, none is invented.
#ifndef EMULATOR_SHADOW_H
#define EMULATOR_SHADOW_H

#include "core.h"

namespace emulator {

void release(Fiber *fiber, uint32_t *clock, uint32_t *fenced);
void acquire(Fiber *fiber, const uint32_t *clock, const uint32_t *fenced);

// Bounds and alignment; reports and returns false if the access cannot be made.
bool shared_valid(Fiber *fiber, uint32_t address, uint32_t bytes, uint32_t align, Site site, const char *what);

// A read by one thread, or, with warp_read != 0 (from begin_warp_read), by its warp as one.
void shared_read(Fiber *fiber, uint32_t address, uint32_t bytes, Site site, const char *what, uint32_t warp_read = 0);
uint32_t begin_warp_read(Block &block, int warp);
// A write, done at once, or (pending) by a copy until shared_landed.
void shared_write(Fiber *fiber, uint32_t address, uint32_t bytes, Site site, const char *what, bool pending = false);
void shared_landed(Fiber *fiber, uint32_t address, uint32_t bytes);

void shadow_reset(Block &block);

}  // namespace emulator

#endif
