// cp.async. A copy is pending from its issue to the wait of its own thread; its bytes land by policy in between.
#include <cstring>

#include "core.h"
#include "global.h"
#include "prim_runtime.h"
#include "shadow.h"

namespace emulator {

static void land(Block &block, Copy &c) {
  if (c.landed) return;
  c.landed = true;
  memcpy(block.arena + c.to, c.from, (size_t)c.from_bytes);
  memset(block.arena + c.to + c.from_bytes, 0, (size_t)(c.bytes - c.from_bytes));
}

bool eager(Block &block) {
  const int when = block.launch->options.copies;
  return when == EMULATOR_EAGER || (when == EMULATOR_RANDOM && (block.draw() & 1));
}

void copy(uint32_t to, const void *from, int bytes, int from_bytes, const char *file, int line) {
  Fiber *fiber = current;
  Block &block = *fiber->block;
  const Site site = {file, line, nullptr};
  if (from_bytes < 0 || from_bytes > bytes) {
    report(EMULATOR_ALIGNMENT, site, "cp_async of %d bytes out of %d", from_bytes, bytes);
    return;
  }
  if (!shared_valid(fiber, to, (uint32_t)bytes, (uint32_t)bytes, site, "cp_async")) return;
  if (from_bytes && !global_valid(fiber, from, (size_t)from_bytes, (size_t)bytes, site, "cp_async")) return;
  if (from_bytes) global_read(fiber, from, (size_t)from_bytes, site, "cp_async");
  if (block.launch->options.count_accesses) count_access(fiber, to, bytes, site);
  shared_write(fiber, to, (uint32_t)bytes, site, "cp_async", Write::COPY);
  Copy c = {to, (const char *)from, bytes, from_bytes, false, site};
  if (eager(block)) land(block, c);
  fiber->copies.push_back(c);
}

void commit_copies() { current->groups.push_back(current->copies.size()); }

void wait_copies(int pending) {
  Fiber *fiber = current;
  if (pending < 0) {
    commit_copies();
    pending = 0;
  }
  for (; fiber->groups.size() - fiber->next_group > (size_t)pending; ++fiber->next_group) {
    for (; fiber->next_copy < fiber->groups[fiber->next_group]; ++fiber->next_copy) {
      Copy &c = fiber->copies[fiber->next_copy];
      land(*fiber->block, c);
      shared_landed(fiber, c.to, (uint32_t)c.bytes);
    }
  }
  if (fiber->next_copy == fiber->copies.size() && fiber->next_group == fiber->groups.size()) {
    fiber->copies.clear();
    fiber->groups.clear();
    fiber->next_copy = fiber->next_group = 0;
  }
}

void finish_copies(Fiber *fiber) {
  if (fiber->next_copy == fiber->copies.size()) return;
  report(EMULATOR_UNFINISHED, fiber->copies[fiber->next_copy].site, "thread %d ends with %zu copies it has not waited for",
         fiber->thread, fiber->copies.size() - fiber->next_copy);
}

}  // namespace emulator
