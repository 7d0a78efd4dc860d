// mbarriers. Their state is kept here; what lies in shared memory is a pattern that nobody should look at.
#include <cstring>
#include <string>

#include "core.h"
#include "prim_runtime.h"
#include "shadow.h"

namespace emulator {

constexpr uint32_t MAX_COUNT = (1u << 20) - 1;  // of arrivals and of bytes

static const Cell &cell_of(const Block &block, uint32_t address) { return block.cells[address / CELL]; }

// The barrier at an address. A caller that cannot know of its mbarrier_init is reported.
static Mbarrier &find(Fiber *fiber, uint32_t address, Site site, const char *what) {
  Block &block = *fiber->block;
  if (!shared_valid(fiber, address, 8, 8, site, what)) stop_block(fiber);
  const auto found = block.mbarriers.find(address);
  if (found == block.mbarriers.end()) {
    report(EMULATOR_BAD_MBARRIER, site, "%s: there is no mbarrier at offset %u", what, address - block.shared_begin);
    stop_block(fiber);
  }
  if (block.shadow() && !written_before(fiber, cell_of(block, address))) {
    report(EMULATOR_BAD_MBARRIER, site, "%s by thread %d: no barrier since the mbarrier_init by thread %d", what, fiber->thread,
           cell_of(block, address).writer);
  }
  return found->second;
}

void mbarrier_init(uint32_t address, uint32_t arrivals, const char *file, int line) {
  Fiber *fiber = current;
  Block &block = *fiber->block;
  const Site site = {file, line, nullptr};
  need_arch(90, 999, site, "an mbarrier");
  if (!shared_valid(fiber, address, 8, 8, site, "mbarrier_init")) stop_block(fiber);
  if (arrivals < 1 || arrivals > MAX_COUNT) {
    report(EMULATOR_BAD_MBARRIER, site, "mbarrier_init with %u arrivals: 1 to %u", arrivals, MAX_COUNT);
    stop_block(fiber);
  }
  if (block.mbarriers.count(address)) {
    report(EMULATOR_BAD_MBARRIER, site, "mbarrier_init of offset %u again", address - block.shared_begin);
    stop_block(fiber);
  }
  shared_write(fiber, address, 8, site, "mbarrier_init", Write::MBARRIER);
  memset(block.arena + address, 0xa5, 8);
  Mbarrier &b = block.mbarriers[address];
  b = {arrivals, arrivals, 0, 0, false, -1, {}, {}, {}};
  reset(block, b.arrived);
  reset(block, b.ended);
}

void fence_mbarrier_init() {
  Block &block = *current->block;
  for (auto &b : block.mbarriers) b.second.fenced |= cell_of(block, b.first).writer == current->thread;
}

// Ends the phase if nothing is left of it.
static void advance(Block &block, Mbarrier &b) {
  if (b.pending || b.bytes) return;
  ++b.phase;
  b.pending = b.arrivals;
  b.ended = b.arrived;
  for (int w = 0; w < block.warps; ++w) {
    for (uint32_t rest = b.waiting[w]; block.shadow() && rest; rest &= rest - 1) {
      acquire(&block.fibers[(size_t)w * WARP + (size_t)__builtin_ctz(rest)], b.ended);
    }
    wake(block, w, b.waiting[w]);
    b.waiting[w] = 0;
  }
}

static void add_bytes(Block &block, uint32_t address, Mbarrier &b, int32_t bytes, Site site) {
  b.bytes += bytes;
  if (b.bytes > (int32_t)MAX_COUNT || b.bytes < -(int32_t)MAX_COUNT) {
    report(EMULATOR_BAD_MBARRIER, site, "the mbarrier at offset %u counts %d bytes: at most %u", address - block.shared_begin,
           b.bytes, MAX_COUNT);
  }
}

void mbarrier_arrive(uint32_t address, uint32_t bytes, const char *file, int line) {
  Fiber *fiber = current;
  Block &block = *fiber->block;
  const Site site = {file, line, nullptr};
  Mbarrier &b = find(fiber, address, site, "mbarrier_arrive");
  if (!b.pending) {
    report(EMULATOR_BAD_MBARRIER, site,
           "mbarrier_arrive by thread %d at offset %u, whose %u arrivals have all been made in phase %u", fiber->thread,
           address - block.shared_begin, b.arrivals, b.phase);
    stop_block(fiber);
  }
  if (block.shadow()) release(fiber, b.arrived);
  add_bytes(block, address, b, (int32_t)bytes, site);
  --b.pending;
  advance(block, b);
}

void complete_load(Block &block, const BulkCopy &copy) {
  Mbarrier &b = block.mbarriers.at(copy.barrier);
  if (b.actor < 0) b.actor = block.actors++ % MAX_ACTORS;  // sharing one would miss races, not invent them
  const uint32_t clock = ++block.actor_clock[(size_t)b.actor];
  b.arrived.clock[(size_t)(block.threads + block.warps + b.actor)] = clock;
  shared_bulk_landed(block, copy.shared, copy.bytes, b.actor);
  add_bytes(block, copy.barrier, b, -(int32_t)copy.bytes, copy.site);
  advance(block, b);
}

void mbarrier_wait(uint32_t address, uint32_t parity, const char *file, int line) {
  Fiber *fiber = current;
  Block &block = *fiber->block;
  const Site site = {file, line, nullptr};
  Mbarrier &b = find(fiber, address, site, "mbarrier_wait");
  if (parity > 1) {
    report(EMULATOR_BAD_MBARRIER, site, "mbarrier_wait for parity %u: 0 or 1", parity);
    stop_block(fiber);
  }
  if ((b.phase & 1) != parity) {
    if (block.shadow()) acquire(fiber, b.ended);
    return;
  }
  b.waiting[fiber->warp] |= 1u << fiber->lane;
  fiber->waits_barrier = address;
  fiber->waits_parity = parity;
  suspend(fiber, "mbarrier_wait", site);
  fiber->waits_barrier = 0;
}

void check_bulk_barrier(Fiber *fiber, uint32_t address, Site site) {
  const Mbarrier &b = find(fiber, address, site, "a bulk load");
  if (!fiber->block->shadow() || b.fenced || proxied_before(fiber, cell_of(*fiber->block, address))) return;
  report(EMULATOR_PROXY, site,
         "a bulk load to the mbarrier at offset %u, whose mbarrier_init has no fence_mbarrier_init after it",
         address - fiber->block->shared_begin);
}

std::string describe_mbarrier(const Block &block, uint32_t address) {
  const Mbarrier &b = block.mbarriers.at(address);
  return "offset " + std::to_string(address - block.shared_begin) + ", phase " + std::to_string(b.phase) + ", " +
         std::to_string(b.pending) + " of " + std::to_string(b.arrivals) + " arrivals and " + std::to_string(b.bytes) +
         " bytes missing";
}

}  // namespace emulator
