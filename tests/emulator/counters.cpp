// Traffic with shared memory by source line, in wavefronts: passes over its 32 banks of 4 bytes. A warp's access of 4 bytes a
// lane or less takes one if no bank holds two of the words it wants; 8 bytes a lane go by half warps, 16 by quarters.
#include <algorithm>

#include "core.h"

namespace emulator {

static emulator_counters &counters_at(Block &block, Site site) {
  return block.counters[site.file ? SiteKey(site.file, site.line) : SiteKey((const char *)site.pc, -1)];
}

void count_matrix_rows(Block &block, const uint32_t *rows, Site site) {
  int want[8] = {};  // distinct rows in each 16-byte column of the banks
  for (int r = 0; r < 8; ++r) {
    if (std::find(rows, rows + r, rows[r]) == rows + r) ++want[rows[r] / 16 % 8];
  }
  emulator_counters &c = counters_at(block, site);
  c.bytes += 128;
  c.wavefronts += (uint64_t)*std::max_element(want, want + 8);
  c.ideal += 1;
}

void count_instruction(Block &block, Site site, uint32_t contiguous_bytes) {
  emulator_counters &c = counters_at(block, site);
  ++c.instructions;
  c.bytes += contiguous_bytes;
  c.wavefronts += (contiguous_bytes + 127) / 128;
  c.ideal += (contiguous_bytes + 127) / 128;
}

// Wavefronts of the lanes [from, to): the largest number of distinct words that one bank is asked for.
static uint64_t wavefronts(const Access &access, int from, int to) {
  std::vector<uint32_t> words[32];
  size_t most = 0;
  for (int l = from; l < to; ++l) {
    if (!(access.lanes >> l & 1)) continue;
    for (uint32_t word = access.address[l] / 4; word <= (access.address[l] + (uint32_t)access.bytes - 1) / 4; ++word) {
      std::vector<uint32_t> &bank = words[word % 32];
      if (std::find(bank.begin(), bank.end(), word) == bank.end()) bank.push_back(word);
      most = std::max(most, bank.size());
    }
  }
  return most;
}

static void count(Block &block, const Access &access, Site site) {
  const int step = access.bytes <= 4 ? 32 : access.bytes <= 8 ? 16 : 8;
  emulator_counters &c = counters_at(block, site);
  ++c.instructions;
  c.bytes += (uint64_t)access.bytes * (uint64_t)__builtin_popcount(access.lanes);
  for (int from = 0; from < 32; from += step) {
    const uint64_t n = wavefronts(access, from, from + step);
    c.wavefronts += n;
    c.ideal += n > 0;
  }
}

// Lanes run one after another here. Their k-th executions of one place are taken as one instruction of the warp.
void count_access(Fiber *fiber, uint32_t address, int bytes, Site site) {
  const auto key = std::make_tuple(site.file ? (const void *)site.file : site.pc, site.file ? site.line : -1, fiber->warp);
  Accesses &a = fiber->block->accesses[key];
  const uint64_t turn = a.count[fiber->lane]++ - a.first;
  if (turn >= a.open.size()) a.open.resize(turn + 1);
  a.open[turn].lanes |= 1u << fiber->lane;
  a.open[turn].address[fiber->lane] = address;
  a.open[turn].bytes = bytes;
  if (turn || a.open[0].lanes != ALL) return;
  count(*fiber->block, a.open[0], site);
  a.open.erase(a.open.begin());
  ++a.first;
}

void count_rest(Block &block) {
  for (const auto &entry : block.accesses) {
    const void *place = std::get<0>(entry.first);
    const int line = std::get<1>(entry.first);
    const Site site = line < 0 ? Site{nullptr, 0, place} : Site{(const char *)place, line, nullptr};
    for (const Access &a : entry.second.open) {
      if (a.lanes) count(block, a, site);
    }
  }
  block.accesses.clear();
}

}  // namespace emulator
