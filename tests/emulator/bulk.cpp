// Bulk copies (TMA). A load is under way from its issue until it lands, by policy: at once, or when no thread can go on without
// (late), or at any wait in between (random); then its bytes count at its mbarrier. A store reads shared memory until its thread
// waits for that.
#include <algorithm>
#include <cstring>

#include "core.h"
#include "global.h"
#include "prim_runtime.h"
#include "shadow.h"

namespace emulator {

void fence_proxy_async() {
  Fiber *fiber = current;
  fiber->block->proxy_fences = true;
  std::copy_n(fiber->clock, fiber->block->clock_width, fiber->proxied);
  ++fiber->clock[fiber->thread];  // what comes after the fence is not covered by it
}

// ---- Boxes ------------------------------------------------------------------------------------------------------------

// A run of elements of a box in one row of the tensor: `bytes` of shared memory from an offset in the tile; of them [begin, end)
// exist in global memory, at `global` for begin.
struct Row {
  uint32_t offset, bytes, begin, end;
  char *global;
};

static uint32_t box_bytes(const TensorMap &map) {
  uint32_t bytes = (uint32_t)map.stride[0];
  for (int i = 0; i < map.rank; ++i) bytes *= map.box[i];
  return bytes;
}

template <class F>
static void for_rows(const BulkCopy &copy, F f) {
  if (!copy.rank) return f(Row{0, copy.bytes, 0, copy.bytes, copy.global});
  const TensorMap &map = copy.map;
  const uint32_t element = (uint32_t)map.stride[0], row_bytes = map.box[0] * element;
  for (uint32_t offset = 0; offset < copy.bytes; offset += row_bytes) {
    bool inside = true;
    int64_t from = 0;
    uint32_t rest = offset / row_bytes;
    for (int i = 1; i < copy.rank; rest /= map.box[i], ++i) {
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

// Moves a row by 16-byte chunks, to or from where the swizzle puts them.
static void move_row(Block &block, const BulkCopy &copy, const Row &row, bool load) {
  for (uint32_t at = 0; at < row.bytes; at += CHUNK) {
    char *chunk = block.arena + swizzled_address(copy.shared + row.offset + at, copy.rank ? copy.map.span : CHUNK);
    if (load) memset(chunk, 0, CHUNK);
    const uint32_t begin = std::max(row.begin, at), end = std::min(row.end, at + CHUNK);
    if (begin >= end) continue;
    char *global = row.global + (begin - row.begin);
    if (load) {
      memcpy(chunk + begin - at, global, end - begin);
    } else {
      memcpy(global, chunk + begin - at, end - begin);
    }
  }
}

// ---- Issue ------------------------------------------------------------------------------------------------------------

static bool valid_map(const void *map, int rank, BulkCopy *copy, const char *what) {
  if ((uintptr_t)map % 64) {
    report(EMULATOR_BAD_COPY, copy->site, "%s: a tensor map is aligned to 64 bytes", what);
    return false;
  }
  memcpy(&copy->map, map, sizeof copy->map);
  if (copy->map.magic != TENSOR_MAP_MAGIC) {
    report(EMULATOR_BAD_COPY, copy->site, "%s: this is no tensor map", what);
    return false;
  }
  if (copy->map.rank != rank) {
    report(EMULATOR_BAD_COPY, copy->site, "%s of %d dimensions with a tensor map of %d", what, rank, copy->map.rank);
    return false;
  }
  return true;
}

static bool valid_global(Fiber *fiber, const BulkCopy &copy, const char *what) {
  bool valid = true;
  for_rows(copy, [&](const Row &row) {
    valid = valid && (row.begin == row.end ||
                      global_valid(fiber, row.global, row.end - row.begin, copy.rank ? 1 : CHUNK, copy.site, what));
  });
  return valid;
}

// Fills in a copy of a box and checks its two ends; a copy that fails is left out.
static bool prepare_tensor(Fiber *fiber, const void *map, int rank, const int *at, BulkCopy *copy, const char *what) {
  if (!valid_map(map, rank, copy, what)) return false;
  copy->rank = rank;
  copy->bytes = box_bytes(copy->map);
  std::copy_n(at, rank, copy->at);
  const uint32_t align = copy->map.span == CHUNK ? 128 : 8u * copy->map.span;
  return shared_valid(fiber, copy->shared, copy->bytes, align, copy->site, what) && valid_global(fiber, *copy, what);
}

static bool prepare_bytes(Fiber *fiber, BulkCopy *copy, const char *what) {
  if (!copy->bytes || copy->bytes % CHUNK) {
    report(EMULATOR_BAD_COPY, copy->site, "%s of %u bytes: a multiple of 16", what, copy->bytes);
    return false;
  }
  return shared_valid(fiber, copy->shared, copy->bytes, CHUNK, copy->site, what) && valid_global(fiber, *copy, what);
}

static void land(Block &block, BulkCopy &copy) {
  for_rows(copy, [&](const Row &row) { move_row(block, copy, row, true); });
  complete_load(block, copy);
}

static void issue_load(Fiber *fiber, BulkCopy &copy, const char *what) {
  Block &block = *fiber->block;
  check_bulk_barrier(fiber, copy.barrier, copy.site);
  for_rows(copy, [&](const Row &row) {
    if (row.begin < row.end) global_read(fiber, row.global, row.end - row.begin, copy.site, what);
  });
  shared_write(fiber, copy.shared, copy.bytes, copy.site, what, Write::BULK);
  if (copy.rank && block.shadow()) memset(&block.span[copy.shared / LINE], copy.map.span, (copy.bytes + LINE - 1) / LINE);
  count_instruction(block, copy.site, copy.bytes);
  block.work.bulk_bytes += copy.bytes;
  if (eager(block)) {
    land(block, copy);
  } else {
    block.loads.push_back(copy);
  }
}

static void store(Fiber *fiber, BulkCopy &copy) {
  if (copy.done) return;
  copy.done = true;
  for_rows(copy, [&](const Row &row) {
    if (row.begin == row.end) return;
    global_write(fiber, row.global, row.end - row.begin, copy.site, "a bulk store");
    move_row(*fiber->block, copy, row, false);
  });
}

static void issue_store(Fiber *fiber, BulkCopy &copy, const char *what) {
  Block &block = *fiber->block;
  need_arch(90, 999, copy.site, what);
  shared_check_async(fiber, copy.shared, copy.bytes, copy.site, what);
  shared_hold(block, copy.shared, copy.bytes, 1);
  count_instruction(block, copy.site, copy.bytes);
  block.work.bulk_bytes += copy.bytes;
  if (eager(block)) store(fiber, copy);
  fiber->stores.push_back(copy);
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

void commit_stores() { current->store_groups.push_back(current->stores.size()); }

// Reading shared memory and writing global memory end together here.
void wait_stores(int pending) {
  Fiber *fiber = current;
  for (; fiber->store_groups.size() - fiber->next_store_group > (size_t)pending; ++fiber->next_store_group) {
    for (; fiber->next_store < fiber->store_groups[fiber->next_store_group]; ++fiber->next_store) {
      BulkCopy &copy = fiber->stores[fiber->next_store];
      store(fiber, copy);
      shared_hold(*fiber->block, copy.shared, copy.bytes, -1);
      shared_mark_read(fiber, copy.shared, copy.bytes);
    }
  }
}

void finish_stores(Fiber *fiber) {
  if (fiber->next_store == fiber->stores.size()) return;
  report(EMULATOR_UNFINISHED, fiber->stores[fiber->next_store].site, "thread %d ends with %zu bulk stores it has not waited for",
         fiber->thread, fiber->stores.size() - fiber->next_store);
}

// ---- Primitives -------------------------------------------------------------------------------------------------------

void prefetch_tensor_map(const void *map, const char *file, int line) {
  BulkCopy copy = {};
  copy.site = {file, line, nullptr};
  TensorMap read;
  memcpy(&read, map, sizeof read);
  valid_map(map, read.rank, &copy, "prefetch_tensor_map");
}

void tensor_load(uint32_t to, const void *map, int rank, const int *at, uint32_t barrier, const char *file, int line) {
  BulkCopy copy = {};
  copy.shared = to;
  copy.barrier = barrier;
  copy.site = {file, line, nullptr};
  if (prepare_tensor(current, map, rank, at, &copy, "tma_load")) issue_load(current, copy, "tma_load");
}

void tensor_store(const void *map, int rank, const int *at, uint32_t from, const char *file, int line) {
  BulkCopy copy = {};
  copy.shared = from;
  copy.site = {file, line, nullptr};
  if (prepare_tensor(current, map, rank, at, &copy, "tma_store")) issue_store(current, copy, "tma_store");
}

void bulk_load(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier, const char *file, int line) {
  BulkCopy copy = {};
  copy.shared = to;
  copy.bytes = bytes;
  copy.global = (char *)const_cast<void *>(from);
  copy.barrier = barrier;
  copy.site = {file, line, nullptr};
  if (prepare_bytes(current, &copy, "bulk_load")) issue_load(current, copy, "bulk_load");
}

void bulk_store(void *to, uint32_t from, uint32_t bytes, const char *file, int line) {
  BulkCopy copy = {};
  copy.shared = from;
  copy.bytes = bytes;
  copy.global = (char *)to;
  copy.site = {file, line, nullptr};
  if (prepare_bytes(current, &copy, "bulk_store")) issue_store(current, copy, "bulk_store");
}

}  // namespace emulator
