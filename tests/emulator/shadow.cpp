#include "shadow.h"

#include <cstring>

namespace emulator {

static void join(uint32_t *__restrict to, const uint32_t *__restrict from, int n) {
  for (int i = 0; i < n; ++i) to[i] = to[i] > from[i] ? to[i] : from[i];
}

void release(Fiber *fiber, uint32_t *clock, uint32_t *fenced) {
  const Block &block = *fiber->block;
  join(clock, fiber->clock, block.clock_width);
  if (block.fences) join(fenced, fiber->fenced, block.clock_width);
  ++fiber->clock[fiber->thread];
}

void acquire(Fiber *fiber, const uint32_t *clock, const uint32_t *fenced) {
  const Block &block = *fiber->block;
  join(fiber->clock, clock, block.clock_width);
  if (block.fences) join(fiber->fenced, fenced, block.clock_width);
}

bool shared_valid(Fiber *fiber, uint32_t address, uint32_t bytes, uint32_t align, Site site, const char *what) {
  const Block &block = *fiber->block;
  const long offset = (long)(int32_t)address - (long)block.shared_begin;
  if (address % align) {
    report(EMULATOR_ALIGNMENT, site, "%s: shared memory offset %ld is no multiple of %u", what, offset, align);
    return false;
  }
  if (address < block.shared_begin || address > block.shared_end || bytes > block.shared_end - address) {
    report(EMULATOR_SHARED_BOUNDS, site, "%s: %u bytes at offset %ld of %u bytes of shared memory", what, bytes, offset,
           block.shared_end - block.shared_begin);
    return false;
  }
  return true;
}

// Marks in Block::reads: bit 31 and the warp's collective clock, or the lane and the low bits of its clock. 0: no read.
constexpr uint32_t WARP_READ = 0x80000000u, CLOCK_BITS = 26, CLOCK_MASK = (1u << CLOCK_BITS) - 1;

uint32_t begin_warp_read(Block &block, int warp) {
  const uint32_t clock = ++block.warp[warp].collective_clock;
  for (int l = 0; l < WARP; ++l) block.fibers[(size_t)warp * WARP + l].clock[block.threads + warp] = clock;
  return WARP_READ | clock;
}

static bool read_before(const Fiber *fiber, int warp, uint32_t mark) {
  const Block &block = *fiber->block;
  if (mark & WARP_READ) return (mark & ~WARP_READ) <= fiber->clock[block.threads + warp];
  const int thread = warp * WARP + (int)(mark >> CLOCK_BITS);
  return thread == fiber->thread || (mark & CLOCK_MASK) <= (fiber->clock[thread] & CLOCK_MASK);
}

static bool written_before(const Fiber *fiber, const Cell &cell) {
  return cell.writer == fiber->thread || cell.clock <= fiber->clock[cell.writer];
}

static bool same(const Cell &a, const Cell &b) { return memcmp(&a, &b, sizeof a) == 0; }

static void check_read(Fiber *fiber, uint32_t offset, const Cell &cell, Site site, const char *what) {
  if (cell.pending) {
    report(EMULATOR_PENDING, site, "%s reads offset %u, which a cp_async of thread %d still writes (no cp_async_wait)", what,
           offset, cell.writer);
  } else if (!cell.written) {
    if (plain_accesses_seen) report(EMULATOR_UNINITIALISED, site, "%s reads offset %u, which nobody has written", what, offset);
  } else if (!written_before(fiber, cell)) {
    report(EMULATOR_READ_AFTER_WRITE, site, "%s by thread %d reads offset %u, which thread %d wrote with no barrier in between",
           what, fiber->thread, offset, cell.writer);
  }
}

void shared_read(Fiber *fiber, uint32_t address, uint32_t bytes, Site site, const char *what, uint32_t warp_read) {
  Block &block = *fiber->block;
  if (!block.shadow()) return;
  const uint32_t mark = warp_read ? warp_read : (uint32_t)fiber->lane << CLOCK_BITS | (fiber->clock[fiber->thread] & CLOCK_MASK);
  const Cell *checked = nullptr;
  for (uint32_t c = address / CELL; c < (address + bytes + CELL - 1) / CELL; ++c) {
    const Cell &cell = block.cells[c];
    block.reads[(size_t)c * block.warps + fiber->warp] = mark;
    if (checked && same(cell, *checked)) continue;
    checked = &cell;
    check_read(fiber, c * CELL - block.shared_begin, cell, site, what);
  }
}

static void check_write(Fiber *fiber, uint32_t offset, const Cell &cell, Site site, const char *what) {
  if (cell.pending) {
    report(EMULATOR_PENDING, site, "%s writes offset %u, which a cp_async of thread %d still writes (no cp_async_wait)", what,
           offset, cell.writer);
  } else if (cell.written && !written_before(fiber, cell)) {
    report(EMULATOR_WRITE_AFTER_WRITE, site, "%s by thread %d writes offset %u, which thread %d wrote with no barrier in between",
           what, fiber->thread, offset, cell.writer);
  }
}

static void check_readers(Fiber *fiber, uint32_t offset, const uint32_t *marks, Site site, const char *what) {
  for (int w = 0; w < fiber->block->warps; ++w) {
    if (!marks[w] || read_before(fiber, w, marks[w])) continue;
    report(EMULATOR_WRITE_AFTER_READ, site, "%s by thread %d writes offset %u, which warp %d may not have read yet (no barrier)",
           what, fiber->thread, offset, w);
    return;
  }
}

void shared_write(Fiber *fiber, uint32_t address, uint32_t bytes, Site site, const char *what, bool pending) {
  Block &block = *fiber->block;
  if (!block.shadow()) return;
  const Cell now = {fiber->clock[fiber->thread], (uint16_t)fiber->thread, 1, pending};
  Cell checked{};
  for (uint32_t c = address / CELL; c < (address + bytes + CELL - 1) / CELL; ++c) {
    uint32_t *marks = block.reads + (size_t)c * block.warps;
    Cell &cell = block.cells[c];
    if (!same(cell, checked)) check_write(fiber, c * CELL - block.shared_begin, checked = cell, site, what);
    check_readers(fiber, c * CELL - block.shared_begin, marks, site, what);
    cell = now;
    memset(marks, 0, sizeof *marks * (size_t)block.warps);
  }
}

void shared_landed(Fiber *fiber, uint32_t address, uint32_t bytes) {
  Block &block = *fiber->block;
  if (!block.shadow()) return;
  const Cell now = {fiber->clock[fiber->thread], (uint16_t)fiber->thread, 1, 0};
  for (uint32_t c = address / CELL; c < (address + bytes + CELL - 1) / CELL; ++c) block.cells[c] = now;
}

void shadow_reset(Block &block) {
  const size_t fibers = (size_t)block.threads;
  block.clock_width = (block.threads + block.warps + 15) / 16 * 16;  // a multiple of a vector
  block.clocks.assign(fibers * 2 * (size_t)block.clock_width, 0);
  for (size_t i = 0; i < fibers; ++i) {
    block.fibers[i].clock = block.clocks.data() + 2 * i * (size_t)block.clock_width;
    block.fibers[i].fenced = block.fibers[i].clock + block.clock_width;
    block.fibers[i].clock[i] = 1;
  }
  for (Barrier &b : block.barriers) {
    b.arrived = 0;
    b.clock.assign((size_t)block.clock_width, 0);
    b.fenced.assign((size_t)block.clock_width, 0);
  }
  const uint32_t first = block.shared_begin / CELL, cells = ARENA_BYTES / CELL - first;
  memset(block.cells + first, 0, cells * sizeof(Cell));
  memset(block.reads + (size_t)first * block.warps, 0, (size_t)cells * block.warps * sizeof(uint32_t));
}

}  // namespace emulator
