// Barriers of a block.
#include <algorithm>

#include "core.h"
#include "prim_runtime.h"
#include "shadow.h"

namespace emulator {

static void begin(Block &block, Barrier &b, int threads) {
  b.threads = threads;
  std::fill(std::begin(b.waiting), std::end(b.waiting), 0u);
  std::fill(std::begin(b.site), std::end(b.site), Site{});
  if (block.shadow()) reset(block, b.moment);
}

static void open(Block &block, Barrier &b, const Fiber *last, bool waits) {
  for (int w = 0; w < block.warps; ++w) {
    for (uint32_t rest = b.waiting[w]; block.shadow() && rest; rest &= rest - 1) {
      acquire(&block.fibers[(size_t)w * WARP + (size_t)__builtin_ctz(rest)], b.moment);
    }
    wake(block, w, b.waiting[w] & ~(waits && w == last->warp ? 1u << last->lane : 0u));
  }
  b.arrived = 0;
}

void barrier(int id, int threads, bool waits, const char *file, int line) {
  Fiber *fiber = current;
  Block &block = *fiber->block;
  const Site site = {file, line, nullptr};
  if (!threads) threads = block.threads;
  if (id < 0 || id >= MAX_BARRIERS || threads < WARP || threads % WARP || threads > block.threads) {
    report(EMULATOR_BAD_BARRIER, site, "barrier %d of %d threads: ids are below 16, threads a multiple of 32 and at most %d", id,
           threads, block.threads);
    stop_block(fiber);
  }
  Barrier &b = block.barriers[id];
  if (!b.arrived) begin(block, b, threads);
  if (b.threads != threads) {
    report(EMULATOR_BAD_BARRIER, site, "barrier %d of %d threads, while others wait there for %d", id, threads, b.threads);
    stop_block(fiber);
  }
  Site &earlier = b.site[fiber->warp];
  if (earlier.file && earlier.line != line) {
    report(EMULATOR_DIVERGENCE, site, "lane %d of warp %d reaches barrier %d here, other lanes at line %d", fiber->lane,
           fiber->warp, id, earlier.line);
  }
  earlier = site;
  if (block.shadow()) release(fiber, b.moment);
  if (waits) b.waiting[fiber->warp] |= 1u << fiber->lane;
  if (++b.arrived == b.threads) {
    open(block, b, fiber, waits);
  } else if (waits) {
    suspend(fiber, id ? "bar_sync" : "sync_block", site);
  }
}

}  // namespace emulator
