// Where a thread is, and its accesses to shared memory.
#include <cstring>

#include "core.h"
#include "prim_runtime.h"
#include "shadow.h"

namespace emulator {

int thread_index() { return current->thread; }
int block_threads() { return current->block->threads; }
int block_index() { return (int)current->block->number; }
int grid_blocks() { return (int)current->block->launch->grid; }

void *shared_memory(size_t bytes, const char *file, int line) {
  const Block &block = *current->block;
  if (bytes > block.shared_end - block.shared_begin) {
    report(EMULATOR_SHARED_BOUNDS, {file, line, nullptr}, "a map of %zu bytes, launched with %u bytes of shared memory", bytes,
           block.shared_end - block.shared_begin);
    stop_block(current);
  }
  return block.arena + block.shared_begin;
}

uint32_t shared_address(const void *object, const char *file, int line) {
  const size_t offset = (size_t)((const char *)object - current->block->arena);
  if (offset <= ARENA_BYTES) return (uint32_t)offset;
  report(EMULATOR_SHARED_BOUNDS, {file, line, nullptr}, "%p is not in shared memory", object);
  stop_block(current);
}

void load_shared(uint32_t address, void *to, uint32_t bytes, const char *file, int line) {
  const Site site = {file, line, nullptr};
  memset(to, 0xff, bytes);
  if (!shared_valid(current, address, bytes, bytes, site, "ld_shared")) return;
  if (current->block->launch->options.count_accesses) count_access(current, address, (int)bytes, site);
  shared_read(current, address, bytes, site, "ld_shared");
  memcpy(to, current->block->arena + address, bytes);
}

void store_shared(uint32_t address, const void *from, uint32_t bytes, const char *file, int line) {
  const Site site = {file, line, nullptr};
  if (!shared_valid(current, address, bytes, bytes, site, "st_shared")) return;
  if (current->block->launch->options.count_accesses) count_access(current, address, (int)bytes, site);
  shared_write(current, address, bytes, site, "st_shared");
  memcpy(current->block->arena + address, from, bytes);
}

}  // namespace emulator
