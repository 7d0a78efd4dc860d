// What the lanes of a warp do together.
#include <string>

#include "core.h"
#include "prim_runtime.h"
#include "shadow.h"

namespace emulator {

static bool same_place(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::string(a.file) == b.file); }

// The place where lanes with this mask gather, or a free one.
static Rendezvous &find(Fiber *fiber, uint32_t mask, Site site) {
  Rendezvous *unused = nullptr;
  for (Rendezvous &r : fiber->block->warp[fiber->warp].at) {
    if (!r.arrived) {
      unused = &r;
    } else if (r.mask == mask) {
      return r;
    } else if (r.mask & mask) {
      report(EMULATOR_DIVERGENCE, site, "lane %d is here with mask %08x while lanes %08x wait with mask %08x at %s:%d",
             fiber->lane, mask, r.arrived, r.mask, base_name(r.site.file), r.site.line);
      stop_block(fiber);
    }
  }
  if (!unused) {
    report(EMULATOR_DIVERGENCE, site, "a warp has more than four collectives under way");
    stop_block(fiber);
  }
  return *unused;
}

void rendezvous(void (*execute)(Block &, int, Rendezvous &), uint32_t mask, void *argument, Site site) {
  Fiber *fiber = current;
  const uint32_t self = 1u << fiber->lane;
  if (!(mask & self)) {
    report(EMULATOR_DIVERGENCE, site, "lane %d calls with mask %08x, which it is not in", fiber->lane, mask);
    stop_block(fiber);
  }
  Rendezvous &r = find(fiber, mask, site);
  if (!r.arrived) {
    r.mask = mask;
    r.execute = execute;
    r.site = site;
  } else if (r.execute != execute || !same_place(r.site, site)) {
    report(EMULATOR_DIVERGENCE, site, "lane %d of warp %d is here while lanes %08x wait at %s:%d", fiber->lane, fiber->warp,
           r.arrived, base_name(r.site.file), r.site.line);
    stop_block(fiber);
  }
  r.argument[fiber->lane] = argument;
  r.arrived |= self;
  if (r.arrived != mask) {
    suspend(fiber, "a collective of a warp", site);
    return;
  }
  ++fiber->block->work.collectives;
  execute(*fiber->block, fiber->warp, r);
  r.arrived = 0;
  wake(*fiber->block, fiber->warp, mask & ~self);
}

template <class F>
static void for_lanes(uint32_t mask, F f) {
  for (; mask; mask &= mask - 1) f(__builtin_ctz(mask));
}

struct Exchange {
  uint32_t value, result;
  int from;
};

static void execute_shuffle(Block &, int, Rendezvous &r) {
  for_lanes(r.mask, [&](int l) {
    Exchange &x = *(Exchange *)r.argument[l];
    // A lane outside the mask gives an undefined value.
    x.result = r.mask >> x.from & 1 ? ((Exchange *)r.argument[x.from])->value : ALL;
  });
}

uint32_t shuffle(uint32_t value, int from, uint32_t mask, const char *file, int line) {
  Exchange x = {value, 0, from};
  rendezvous(execute_shuffle, mask, &x, {file, line, nullptr});
  return x.result;
}

static void execute_ballot(Block &, int, Rendezvous &r) {
  uint32_t votes = 0;
  for_lanes(r.mask, [&](int l) { votes |= ((Exchange *)r.argument[l])->value << l; });
  for_lanes(r.mask, [&](int l) { ((Exchange *)r.argument[l])->result = votes; });
}

uint32_t ballot(bool predicate, uint32_t mask, const char *file, int line) {
  Exchange x = {predicate, 0, 0};
  rendezvous(execute_ballot, mask, &x, {file, line, nullptr});
  return x.result;
}

static void execute_sync(Block &block, int warp, Rendezvous &r) {
  if (!block.shadow()) return;
  reset(block, block.scratch);
  Fiber *lanes = &block.fibers[(size_t)warp * WARP];
  for_lanes(r.mask, [&](int l) { release(lanes + l, block.scratch); });
  for_lanes(r.mask, [&](int l) { acquire(lanes + l, block.scratch); });
}

void sync_warp(uint32_t mask, const char *file, int line) { rendezvous(execute_sync, mask, nullptr, {file, line, nullptr}); }

}  // namespace emulator
