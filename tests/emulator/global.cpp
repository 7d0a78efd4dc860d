// Races in global memory are kept per 2 bytes as the last write: launch, block, thread and the thread's clock. Within a block
// that is ordered by the vector clocks of shadow.h. Between blocks only fence_device and atomics order: an atomic releases to its
// address what its thread has fenced, and acquires, for the whole block, what others have released there. Reads are not kept.
#include "global.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "prim_runtime.h"
#include "shadow.h"

namespace emulator {

static std::vector<Allocation> allocations;  // by address; changed only between launches (runtime.cpp's lock)
static std::mutex released_lock;
static std::unordered_map<const void *, History> released;

static bool before(const char *address, const Allocation &a) { return address < a.map; }

// Larger allocations start as zeros that take no memory: tests of far offsets touch a few rows of many gigabytes.
constexpr size_t POISONED_BYTES = (size_t)1 << 30;

// Of an allocation whose map, but for its guard pages, has `inner` bytes.
static size_t cell_bytes(size_t inner) { return (inner / CELL + 1) * sizeof(uint64_t); }
static size_t cell_bytes(const Allocation &a) { return cell_bytes(a.map_bytes - 2 * (size_t)sysconf(_SC_PAGESIZE)); }

void *allocate(size_t bytes, int device) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE), padded = (bytes + 255) / 256 * 256;
  const size_t inner = (padded + page - 1) / page * page;
  Allocation a = {nullptr, bytes, device, nullptr, inner + 2 * page, nullptr};
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  a.map = (char *)mmap(nullptr, a.map_bytes, PROT_NONE, flags, -1, 0);
  a.cells = (uint64_t *)mmap(nullptr, cell_bytes(inner), PROT_READ | PROT_WRITE, flags, -1, 0);
  if (a.map == MAP_FAILED || a.cells == MAP_FAILED) return nullptr;
  mprotect(a.map + page, inner, PROT_READ | PROT_WRITE);
  if (bytes < POISONED_BYTES) memset(a.map + page, 0xff, inner);
  a.base = a.map + page + inner - padded;  // at the end: what runs over meets the guard
  allocations.insert(std::upper_bound(allocations.begin(), allocations.end(), a.map, before), a);
  return a.base;
}

bool deallocate(void *pointer) {
  const Allocation *a = find_allocation(pointer);
  if (!a || a->base != pointer) return false;
  munmap(a->cells, cell_bytes(*a));
  munmap(a->map, a->map_bytes);
  allocations.erase(allocations.begin() + (a - allocations.data()));
  return true;
}

const Allocation *find_allocation(const void *pointer) {
  const char *p = (const char *)pointer;
  auto next = std::upper_bound(allocations.begin(), allocations.end(), p, before);
  if (next == allocations.begin()) return nullptr;
  const Allocation &a = *--next;
  return p < a.map + a.map_bytes ? &a : nullptr;
}

size_t allocated_bytes() {
  size_t sum = 0;
  for (const Allocation &a : allocations) sum += a.bytes;
  return sum;
}

bool describe_global(char *to, size_t size, const char *address) {
  const Allocation *a = find_allocation(address);
  if (a) snprintf(to, size, "offset %ld of %zu bytes of global memory", (long)(address - a->base), a->bytes);
  return a != nullptr;
}

bool global_valid(Fiber *fiber, const void *pointer, size_t bytes, size_t align, Site site, const char *what) {
  const char *p = (const char *)pointer;
  const Allocation *a = find_allocation(p);
  if (!a || p < a->base || p + bytes > a->base + a->bytes) {
    char where[100] = "no allocation";
    describe_global(where, sizeof where, p);
    report(EMULATOR_GLOBAL_BOUNDS, site, "%s: %zu bytes at %p: %s", what, bytes, pointer, where);
    return false;
  }
  if (a->device != fiber->block->launch->device) {
    report(EMULATOR_GLOBAL_BOUNDS, site, "%s on device %d of memory of device %d", what, fiber->block->launch->device, a->device);
    return false;
  }
  if ((uintptr_t)p % align) {
    report(EMULATOR_ALIGNMENT, site, "%s: global address %p is no multiple of %zu", what, pointer, align);
    return false;
  }
  return true;
}

// ---- The last write of a cell: launch 12 bits, block 22, thread 10, clock 20 ------------------------------------------

static uint64_t write_of(const Fiber *fiber) {
  const Block &block = *fiber->block;
  return (uint64_t)block.launch->id << 52 | (uint64_t)(block.number & 0x3fffff) << 30 | (uint64_t)fiber->thread << 20 |
         (fiber->clock[fiber->thread] & 0xfffff);
}

static bool ordered(const Fiber *fiber, uint64_t write) {
  const Block &block = *fiber->block;
  if (write >> 52 != block.launch->id) return true;
  const uint32_t writer = (uint32_t)(write >> 30 & 0x3fffff), thread = (uint32_t)(write >> 20 & 0x3ff), clock = write & 0xfffff;
  if (writer == (block.number & 0x3fffff)) return thread == (uint32_t)fiber->thread || clock <= fiber->clock[thread];
  auto seen = block.history.find(writer);
  return seen != block.history.end() && clock <= seen->second[thread];
}

template <class F>
static void for_cells(const void *pointer, size_t bytes, F f) {
  const Allocation *a = find_allocation(pointer);
  const size_t first = (size_t)((const char *)pointer - a->base) / CELL, last = first + (bytes + CELL - 1) / CELL;
  for (size_t c = first; c < last; ++c) f(a->cells + c, c * CELL);
}

static void report_race(const Fiber *fiber, size_t offset, uint64_t write, Site site, const char *what) {
  report(EMULATOR_GLOBAL_RACE, site,
         "%s by block %u thread %d of offset %zu, which block %u thread %u wrote with no order in between (within a block a "
         "barrier, between "
         "blocks fence_device and an atomic)",
         what, fiber->block->number, fiber->thread, offset, (uint32_t)(write >> 30 & 0x3fffff), (uint32_t)(write >> 20 & 0x3ff));
}

void global_read(Fiber *fiber, const void *pointer, size_t bytes, Site site, const char *what) {
  if (!fiber->block->shadow()) return;
  for_cells(pointer, bytes, [&](uint64_t *cell, size_t offset) {
    const uint64_t write = __atomic_load_n(cell, __ATOMIC_RELAXED);
    if (!ordered(fiber, write)) report_race(fiber, offset, write, site, what);
  });
}

void global_write(Fiber *fiber, const void *pointer, size_t bytes, Site site, const char *what) {
  if (!fiber->block->shadow()) return;
  const uint64_t now = write_of(fiber);
  for_cells(pointer, bytes, [&](uint64_t *cell, size_t offset) {
    const uint64_t write = __atomic_exchange_n(cell, now, __ATOMIC_RELAXED);
    if (!ordered(fiber, write)) report_race(fiber, offset, write, site, what);
  });
}

uint32_t new_launch_id() {
  static uint32_t id;
  released.clear();
  id = (id + 1) & 0xfff;
  if (!id) {  // the ids of 4095 launches ago come again
    for (Allocation &a : allocations) madvise(a.cells, cell_bytes(a), MADV_DONTNEED);
    id = 1;
  }
  return id;
}

// ---- Primitives -------------------------------------------------------------------------------------------------------

void load_global(const void *address, void *to, size_t bytes, const char *file, int line) {
  const Site site = {file, line, nullptr};
  memset(to, 0xff, bytes);
  if (!global_valid(current, address, bytes, bytes, site, "ld_global")) return;
  global_read(current, address, bytes, site, "ld_global");
  memcpy(to, address, bytes);
}

void store_global(void *address, const void *from, size_t bytes, const char *file, int line) {
  const Site site = {file, line, nullptr};
  if (!global_valid(current, address, bytes, bytes, site, "st_global")) return;
  global_write(current, address, bytes, site, "st_global");
  memcpy(address, from, bytes);
}

void fence_device() {
  Fiber *fiber = current;
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  begin_fences(*fiber->block, fiber->block->fences, &Fiber::fenced);
  std::copy_n(fiber->clock, fiber->block->clock_width, fiber->fenced);
  ++fiber->clock[fiber->thread];  // what comes after the fence is not released by it
}

static void join_history(History &to, uint32_t block, const std::vector<uint32_t> &clock) {
  std::vector<uint32_t> &mine = to[block];
  mine.resize(std::max(mine.size(), clock.size()));
  for (size_t i = 0; i < clock.size(); ++i) mine[i] = std::max(mine[i], clock[i]);
}

// Under released_lock, as the atomic itself is: the order of arrivals and of what they have seen is one.
static void exchange_history(Fiber *fiber, const void *address) {
  Block &block = *fiber->block;
  History &there = released[address];
  if (block.fences) {
    join_history(there, block.number, std::vector<uint32_t>(fiber->fenced, fiber->fenced + block.clock_width));
    for (const auto &h : block.history) join_history(there, h.first, h.second);
  }
  for (const auto &h : there) {
    if (h.first != block.number) join_history(block.history, h.first, h.second);
  }
}

uint32_t atomic_inc(uint32_t *address, uint32_t limit, const char *file, int line) {
  Fiber *fiber = current;
  if (!global_valid(fiber, address, sizeof *address, sizeof *address, {file, line, nullptr}, "atomic_inc")) return 0;
  std::lock_guard<std::mutex> guard(released_lock);
  if (fiber->block->shadow()) exchange_history(fiber, address);
  const uint32_t old = *address;
  *address = old >= limit ? 0 : old + 1;
  return old;
}

}  // namespace emulator
