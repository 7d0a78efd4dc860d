// Bulk copies (TMA). One is under way from its issue until it lands, by policy: at once, or when no thread can go on without
// (late), or at any wait in between (random); then its bytes count at its mbarrier.
#include <algorithm>
#include <cstring>

#include "core.h"
#include "global.h"
#include "prim_runtime.h"
#include "shadow.h"

namespace emulator {

void fence_proxy_async() {
  Fiber *fiber = current;
  begin_fences(*fiber->block, fiber->block->proxy_fences, &Fiber::proxied);
  std::copy_n(fiber->clock, fiber->block->clock_width, fiber->proxied);
  ++fiber->clock[fiber->thread];  // what comes after the fence is not covered by it
}

// ---- Boxes ------------------------------------------------------------------------------------------------------------

// A run of elements of a box in one row of the tensor: `bytes` of shared memory from an offset in the tile; of them [begin, end)
// exist in global memory, at `global` for begin.
struct Row {
  uint32_t offset, bytes, begin, end;
  const char *global;
};

static uint32_t box_bytes(const TensorMap &map) {
  uint32_t bytes = (uint32_t)map.stride[0];
  for (int i = 0; i < map.rank; ++i) bytes *= map.box[i];
  return bytes;
}

template <class F>
static void for_rows(const BulkCopy &copy, F f) {
  const TensorMap &map = copy.map;
  const uint32_t element = (uint32_t)map.stride[0], row_bytes = map.box[0] * element;
  for (uint32_t offset = 0; offset < copy.bytes; offset += row_bytes) {
    bool inside = true;
    int64_t from = 0;
    uint32_t rest = offset / row_bytes;
    for (int i = 1; i < BOX_RANK; rest /= map.box[i], ++i) {
      const int64_t x = (int64_t)copy.at[i] + rest % map.box[i];
      inside &= x >= 0 && x <= map.last[i];
      from += x * (int64_t)map.stride[i];
    }
    const int64_t begin = std::max<int64_t>(-(int64_t)copy.at[0], 0);
    const int64_t end = std::min<int64_t>((int64_t)map.last[0] + 1 - copy.at[0], map.box[0]);
    if (!inside || begin >= end) {
      f(Row{offset, row_bytes, 0, 0, nullptr});
    } else {
      f(Row{offset, row_bytes, (uint32_t)begin * element, (uint32_t)end * element,
            map.base + from + (copy.at[0] + begin) * (int64_t)element});
    }
  }
}

// Moves a row by 16-byte chunks to where the swizzle puts them.
static void move_row(Block &block, const BulkCopy &copy, const Row &row) {
  for (uint32_t at = 0; at < row.bytes; at += CHUNK) {
    char *chunk = block.arena + swizzled_address(copy.shared + row.offset + at, copy.map.span);
    memset(chunk, 0, CHUNK);
    const uint32_t begin = std::max(row.begin, at), end = std::min(row.end, at + CHUNK);
    if (begin < end) memcpy(chunk + begin - at, row.global + (begin - row.begin), end - begin);
  }
}

// ---- Issue ------------------------------------------------------------------------------------------------------------

static bool valid_map(const void *map, BulkCopy *copy, const char *what) {
  if ((uintptr_t)map % 64) {
    report(EMULATOR_BAD_COPY, copy->site, "%s: a tensor map is aligned to 64 bytes", what);
    return false;
  }
  memcpy(&copy->map, map, sizeof copy->map);
  if (copy->map.magic != TENSOR_MAP_MAGIC) {
    report(EMULATOR_BAD_COPY, copy->site, "%s: this is no tensor map", what);
    return false;
  }
  return true;
}

// Both ends of a copy.
static bool valid_ends(Fiber *fiber, const BulkCopy &copy) {
  const uint32_t align = copy.map.span == CHUNK ? 128 : 8u * copy.map.span;
  if (!shared_valid(fiber, copy.shared, copy.bytes, align, copy.site, "tma_load")) return false;
  bool valid = true;
  for_rows(copy, [&](const Row &row) {
    valid = valid && (row.begin == row.end || global_valid(fiber, row.global, row.end - row.begin, 1, copy.site, "tma_load"));
  });
  return valid;
}

static void land(Block &block, BulkCopy &copy) {
  for_rows(copy, [&](const Row &row) { move_row(block, copy, row); });
  complete_load(block, copy);
}

static void issue(Fiber *fiber, BulkCopy &copy) {
  Block &block = *fiber->block;
  check_bulk_barrier(fiber, copy.barrier, copy.site);
  for_rows(copy, [&](const Row &row) {
    if (row.begin < row.end) global_read(fiber, row.global, row.end - row.begin, copy.site, "tma_load");
  });
  shared_write(fiber, copy.shared, copy.bytes, copy.site, "tma_load", Write::BULK);
  if (block.shadow()) memset(&block.span[copy.shared / LINE], copy.map.span, (copy.bytes + LINE - 1) / LINE);
  count_instruction(block, copy.site, copy.bytes);
  block.work.bulk_bytes += copy.bytes;
  if (eager(block)) {
    land(block, copy);
  } else {
    block.loads.push_back(copy);
  }
}

// ---- Completion -------------------------------------------------------------------------------------------------------

bool land_load(Block &block) {
  if (block.loads.empty()) return false;
  size_t i = 0;
  if (block.launch->options.order == EMULATOR_DESCENDING) i = block.loads.size() - 1;
  if (block.launch->options.order == EMULATOR_SHUFFLED) i = block.draw() % block.loads.size();
  BulkCopy copy = block.loads[i];
  block.loads.erase(block.loads.begin() + (long)i);
  land(block, copy);
  return true;
}

void finish_loads(Block &block) {
  if (block.loads.empty()) return;
  report(EMULATOR_UNFINISHED, block.loads[0].site, "the block ends with %zu bulk loads under way", block.loads.size());
}

// ---- Primitives -------------------------------------------------------------------------------------------------------

void prefetch_tensor_map(const void *map, const char *file, int line) {
  BulkCopy copy = {};
  copy.site = {file, line, nullptr};
  valid_map(map, &copy, "prefetch_tensor_map");
}

// A copy that fails a check is left out.
void tma_load(uint32_t to, const void *map, const int *at, uint32_t barrier, const char *file, int line) {
  BulkCopy copy = {};
  copy.shared = to;
  copy.barrier = barrier;
  copy.site = {file, line, nullptr};
  if (!valid_map(map, &copy, "tma_load")) return;
  if (copy.map.rank != BOX_RANK) {
    report(EMULATOR_BAD_COPY, copy.site, "tma_load with a tensor map of %d dimensions: %d", copy.map.rank, BOX_RANK);
    return;
  }
  copy.bytes = box_bytes(copy.map);
  std::copy_n(at, BOX_RANK, copy.at);
  if (valid_ends(current, copy)) issue(current, copy);
}

}  // namespace emulator
