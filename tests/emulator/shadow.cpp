#include "shadow.h"

#include <algorithm>
#include <cstring>

#include "vectors.h"

namespace emulator {

// ---- Clocks -----------------------------------------------------------------------------------------------------------

void reset(const Block &block, Moment &moment) {
  for (std::vector<uint32_t> *clock : {&moment.clock, &moment.fenced, &moment.proxied})
    clock->assign((size_t)block.clock_width, 0);
}

void release(Fiber *fiber, Moment &moment) {
  const Block &block = *fiber->block;
  join(moment.clock.data(), fiber->clock, block.clock_width);
  if (block.fences) join(moment.fenced.data(), fiber->fenced, block.clock_width);
  if (block.proxy_fences) join(moment.proxied.data(), fiber->proxied, block.clock_width);
  ++fiber->clock[fiber->thread];
}

void acquire(Fiber *fiber, const Moment &moment) {
  const Block &block = *fiber->block;
  join(fiber->clock, moment.clock.data(), block.clock_width);
  if (block.fences) join(fiber->fenced, moment.fenced.data(), block.clock_width);
  if (block.proxy_fences) join(fiber->proxied, moment.proxied.data(), block.clock_width);
}

void begin_fences(Block &block, bool &begun, uint32_t *Fiber::*clock) {
  if (begun) return;
  begun = true;
  for (int t = 0; t < block.threads; ++t) std::fill_n(block.fibers[(size_t)t].*clock, block.clock_width, 0);
}

// ---- Accesses ---------------------------------------------------------------------------------------------------------

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

static uint32_t read_mark(const Fiber *fiber, uint32_t warp_read) {
  return warp_read ? warp_read : (uint32_t)fiber->lane << CLOCK_BITS | (fiber->clock[fiber->thread] & CLOCK_MASK);
}

static bool read_before(const Fiber *fiber, int warp, uint32_t mark) {
  const Block &block = *fiber->block;
  if (mark & WARP_READ) return (mark & ~WARP_READ) <= fiber->clock[block.threads + warp];
  const int thread = warp * WARP + (int)(mark >> CLOCK_BITS);
  return thread == fiber->thread || (mark & CLOCK_MASK) <= (fiber->clock[thread] & CLOCK_MASK);
}

bool written_before(const Fiber *fiber, const Cell &cell) {
  return cell.writer == fiber->thread || cell.clock <= fiber->clock[cell.writer];
}

bool proxied_before(const Fiber *fiber, const Cell &cell) {
  return !(cell.flags & CELL_GENERIC) || (fiber->block->proxy_fences && cell.clock <= fiber->proxied[cell.writer]);
}

static bool same(const Cell &a, const Cell &b) { return memcmp(&a, &b, sizeof a) == 0; }

static std::string writer_name(const Block &block, int writer) {
  return writer < block.threads ? "thread " + std::to_string(writer) : "a bulk copy";
}

// Is somebody still writing, or is an mbarrier there? Reports it.
static bool busy(const Fiber *fiber, uint32_t offset, const Cell &cell, Site site, const char *what, const char *verb) {
  if (cell.flags & CELL_COPYING) {
    report(EMULATOR_PENDING, site, "%s %s offset %u, which a cp_async of thread %d still writes (no cp_async_wait)", what, verb,
           offset, cell.writer);
  } else if (cell.flags & CELL_BULK) {
    report(EMULATOR_PENDING, site, "%s %s offset %u, which a bulk copy of thread %d still writes (no mbarrier_wait)", what, verb,
           offset, cell.writer);
  } else if (cell.flags & CELL_MBARRIER) {
    report(EMULATOR_BAD_MBARRIER, site, "%s by thread %d %s offset %u, where an mbarrier is", what, fiber->thread, verb, offset);
  }
  return (cell.flags & (CELL_COPYING | CELL_BULK | CELL_MBARRIER)) != 0;
}

static void report_unproxied(const Fiber *fiber, uint32_t offset, const Cell &cell, Site site, const char *what,
                             const char *verb) {
  report(EMULATOR_PROXY, site, "%s of thread %d %s offset %u, which thread %d wrote with no fence_proxy_async in between", what,
         fiber->thread, verb, offset, cell.writer);
}

static void check_read(Fiber *fiber, uint32_t offset, const Cell &cell, Site site, const char *what, bool async) {
  if (busy(fiber, offset, cell, site, what, "reads")) return;
  if (!(cell.flags & CELL_WRITTEN)) {
    if (plain_accesses_seen) report(EMULATOR_UNINITIALISED, site, "%s reads offset %u, which nobody has written", what, offset);
  } else if (!written_before(fiber, cell)) {
    report(EMULATOR_READ_AFTER_WRITE, site, "%s by thread %d reads offset %u, which %s wrote with no barrier in between", what,
           fiber->thread, offset, writer_name(*fiber->block, cell.writer).c_str());
  } else if (async && !proxied_before(fiber, cell)) {
    report_unproxied(fiber, offset, cell, site, what, "reads");
  }
}

// Checks cells [first, last), equal neighbours once.
static void check_reads(Fiber *fiber, uint32_t first, uint32_t last, Site site, const char *what, bool async) {
  const Block &block = *fiber->block;
  const Cell *checked = nullptr;
  for (uint32_t c = first; c < last; ++c) {
    const Cell &cell = block.cells[c];
    if (checked && same(cell, *checked)) continue;
    checked = &cell;
    check_read(fiber, c * CELL - block.shared_begin, cell, site, what, async);
  }
}

static void mark_lines(Block &block, uint32_t address, uint32_t bytes) {
  for (uint32_t line = address / LINE; line <= (address + bytes - 1) / LINE; ++line) block.marked[line] = 1;
}

void shared_mark_read(Fiber *fiber, uint32_t address, uint32_t bytes, uint32_t warp_read) {
  Block &block = *fiber->block;
  if (!block.shadow()) return;
  mark_lines(block, address, bytes);
  const uint32_t mark = read_mark(fiber, warp_read), last = (address + bytes + CELL - 1) / CELL;
  for (uint32_t c = address / CELL; c < last; ++c) block.reads[(size_t)c * block.warps + fiber->warp] = mark;
}

void shared_read(Fiber *fiber, uint32_t address, uint32_t bytes, Site site, const char *what, uint32_t warp_read) {
  if (!fiber->block->shadow()) return;
  shared_mark_read(fiber, address, bytes, warp_read);
  check_reads(fiber, address / CELL, (address + bytes + CELL - 1) / CELL, site, what, false);
}

void shared_check_async(Fiber *fiber, uint32_t address, uint32_t bytes, Site site, const char *what) {
  if (fiber->block->shadow()) check_reads(fiber, address / CELL, (address + bytes) / CELL, site, what, true);
}

void shared_hold(Block &block, uint32_t address, uint32_t bytes, int change) {
  for (uint32_t c = address / CHUNK; c < (address + bytes) / CHUNK; ++c)
    block.in_flight[c] = (uint8_t)(block.in_flight[c] + change);
}

static void check_write(Fiber *fiber, uint32_t offset, const Cell &cell, Site site, const char *what, bool async) {
  if (busy(fiber, offset, cell, site, what, "writes") || !(cell.flags & CELL_WRITTEN)) return;
  if (!written_before(fiber, cell)) {
    report(EMULATOR_WRITE_AFTER_WRITE, site, "%s by thread %d writes offset %u, which %s wrote with no barrier in between", what,
           fiber->thread, offset, writer_name(*fiber->block, cell.writer).c_str());
  } else if (async && !proxied_before(fiber, cell)) {
    report_unproxied(fiber, offset, cell, site, what, "writes");
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

static uint16_t flags_of(Write how) {
  switch (how) {
    case Write::NOW: return CELL_WRITTEN | CELL_GENERIC;
    case Write::COPY: return CELL_WRITTEN | CELL_GENERIC | CELL_COPYING;
    case Write::BULK: return CELL_WRITTEN | CELL_BULK;
    default: return CELL_WRITTEN | CELL_GENERIC | CELL_MBARRIER;
  }
}

void shared_write(Fiber *fiber, uint32_t address, uint32_t bytes, Site site, const char *what, Write how) {
  Block &block = *fiber->block;
  if (!block.shadow()) return;
  const Cell now = {fiber->clock[fiber->thread], (uint16_t)fiber->thread, flags_of(how)};
  mark_lines(block, address, bytes);
  for (uint32_t line = address / LINE; line <= (address + bytes - 1) / LINE; ++line) block.span[line] = 0;
  Cell checked{};
  for (uint32_t c = address / CELL; c < (address + bytes + CELL - 1) / CELL; ++c) {
    uint32_t *marks = block.reads + (size_t)c * block.warps;
    const uint32_t offset = c * CELL - block.shared_begin;
    Cell &cell = block.cells[c];
    if (!same(cell, checked)) check_write(fiber, offset, checked = cell, site, what, how == Write::BULK);
    if (block.in_flight[c * CELL / CHUNK]) {
      report(EMULATOR_IN_FLIGHT, site, "%s by thread %d writes offset %u, which a wgmma may still read (no wait)", what,
             fiber->thread, offset);
    } else {
      check_readers(fiber, offset, marks, site, what);
    }
    cell = now;
    memset(marks, 0, sizeof *marks * (size_t)block.warps);
  }
}

static void set_cells(Block &block, uint32_t address, uint32_t bytes, const Cell &now) {
  if (!block.shadow()) return;
  mark_lines(block, address, bytes);
  for (uint32_t c = address / CELL; c < (address + bytes + CELL - 1) / CELL; ++c) block.cells[c] = now;
}

void shared_landed(Fiber *fiber, uint32_t address, uint32_t bytes) {
  set_cells(*fiber->block, address, bytes, {fiber->clock[fiber->thread], (uint16_t)fiber->thread, CELL_WRITTEN | CELL_GENERIC});
}

void shared_bulk_landed(Block &block, uint32_t address, uint32_t bytes, int actor) {
  const uint16_t writer = (uint16_t)(block.threads + block.warps + actor);
  set_cells(block, address, bytes, {block.actor_clock[(size_t)actor], writer, CELL_WRITTEN});
}

// Most blocks of a grid that fills the device find no work: only what the block before has marked is cleared.
static void clear_marks(Block &block) {
  constexpr size_t CELLS = LINE / CELL;
  for (size_t line = 0; line < block.marked.size(); ++line) {
    if (!block.marked[line]) continue;
    const size_t reads = CELLS * (size_t)block.marked_warps;
    memset(block.cells + line * CELLS, 0, CELLS * sizeof(Cell));
    memset(block.reads + line * reads, 0, reads * sizeof(uint32_t));
    block.marked[line] = 0;
  }
  block.marked_warps = block.warps;
}

void shadow_reset(Block &block) {
  const size_t fibers = (size_t)block.threads;
  block.clock_width = (block.threads + block.warps + MAX_ACTORS + 15) / 16 * 16;  // a multiple of a vector
  block.clocks.resize(fibers * 3 * (size_t)block.clock_width);
  for (size_t i = 0; i < fibers; ++i) {
    block.fibers[i].clock = block.clocks.data() + 3 * i * (size_t)block.clock_width;
    block.fibers[i].fenced = block.fibers[i].clock + block.clock_width;
    block.fibers[i].proxied = block.fibers[i].fenced + block.clock_width;
    std::fill_n(block.fibers[i].clock, block.clock_width, 0);
    block.fibers[i].clock[i] = 1;
  }
  for (Barrier &b : block.barriers) {
    b.arrived = 0;
    reset(block, b.moment);
  }
  block.actors = 0;
  block.actor_clock.assign(MAX_ACTORS, 0);
  clear_marks(block);
  memset(block.in_flight.data(), 0, block.in_flight.size());
  memset(block.span.data(), 0, block.span.size());
}

}  // namespace emulator
