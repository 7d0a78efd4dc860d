// Who wrote and read each cell of shared memory, and whether the one who touches it now is ordered after them.
//
// Vector clocks: a fiber's clock[t] is the last moment of thread t that happened before now. Barriers release (join the fiber's
// clock into the barrier's, then step the fiber's own) and acquire (join back). An access by t at moment c is ordered before a
// fiber f iff c <= f.clock[t]. Entries past the threads stand for whole warps, for reads that a warp makes as one (ldmatrix,
// wgmma), and then for actors: what bulk copies have landed at one mbarrier.
//
// Two proxies: what threads write (generic) the async proxy, that is bulk copies and wgmma, sees only if fence_proxy_async came
// in between: proxied[t] is the part of clock[t] before a fence, and travels with it.
//
// Of reads, the last of each warp is kept: a race with an earlier one of another lane can be missed, none is invented.
#ifndef EMULATOR_SHADOW_H
#define EMULATOR_SHADOW_H

#include "core.h"

namespace emulator {

void reset(const Block &block, Moment &moment);
void release(Fiber *fiber, Moment &moment);
void acquire(Fiber *fiber, const Moment &moment);
// Before a fence of one of two kinds: its flag in the block, and its clock in each fiber, which is undefined until then.
void begin_fences(Block &block, bool &begun, uint32_t *Fiber::*clock);

// Bounds and alignment; reports and returns false if the access cannot be made.
bool shared_valid(Fiber *fiber, uint32_t address, uint32_t bytes, uint32_t align, Site site, const char *what);

// A read by one thread, or, with warp_read != 0 (from begin_warp_read), by its warp as one.
void shared_read(Fiber *fiber, uint32_t address, uint32_t bytes, Site site, const char *what, uint32_t warp_read = 0);
uint32_t begin_warp_read(Block &block, int warp);
// A read by the async proxy in three parts, of whole chunks: at issue, whether it may; while it is under way nobody may write
// (hold, and undone with -1); when its end is known, the read itself.
void shared_check_async(Fiber *fiber, uint32_t address, uint32_t bytes, Site site, const char *what);
void shared_hold(Block &block, uint32_t address, uint32_t bytes, int change);
void shared_mark_read(Fiber *fiber, uint32_t address, uint32_t bytes, uint32_t warp_read);

// A write that is done at once; by a cp_async until shared_landed; by a bulk copy until shared_bulk_landed, which makes it the
// actor's; of a new mbarrier.
enum class Write { NOW, COPY, BULK, MBARRIER };
void shared_write(Fiber *fiber, uint32_t address, uint32_t bytes, Site site, const char *what, Write how = Write::NOW);
void shared_landed(Fiber *fiber, uint32_t address, uint32_t bytes);
void shared_bulk_landed(Block &block, uint32_t address, uint32_t bytes, int actor);

// Of the last write of a cell: whether it is ordered before the fiber's next access, and before the async proxy's.
bool written_before(const Fiber *fiber, const Cell &cell);
bool proxied_before(const Fiber *fiber, const Cell &cell);

void shadow_reset(Block &block);

}  // namespace emulator

#endif
