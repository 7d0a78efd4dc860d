// An operand of wgmma in shared memory: what its descriptor says, and where its chunks of 16 bytes lie.
#ifndef EMULATOR_WGMMA_OPERAND_H
#define EMULATOR_WGMMA_OPERAND_H

#include "core.h"

namespace emulator {

constexpr int LINE_CHUNKS = 2;  // of A and of K-major B: depth is 32 bytes

// The fields of a matrix descriptor.
struct Operand {
  uint32_t start, leading, stride, base_offset, span;
  bool mn_major;
};

inline Operand decode(uint64_t descriptor, bool mn_major) {
  static const uint32_t spans[] = {16, 128, 64, 32};
  const auto field = [&](int bit) { return (uint32_t)(descriptor >> bit & 0x3fff) << 4; };
  return {field(0), field(16), field(32), (uint32_t)(descriptor >> 49 & 7), spans[descriptor >> 62], mn_major};
}

// Address of a chunk: K-major, half `block` of row or column `line`; MN-major, columns 8 block... of row k = `line`.
inline uint32_t chunk_address(const Operand &o, int line, int block) {
  const uint32_t i = (uint32_t)line, j = (uint32_t)block, across = o.span / CHUNK;  // chunks next to each other
  uint32_t offset = i / 8 * o.stride + i % 8 * o.span;
  if (o.span == CHUNK) {
    offset = i % 8 * CHUNK + (o.mn_major ? i / 8 * o.leading + j * o.stride : i / 8 * o.stride + j * o.leading);
  } else {
    offset += o.mn_major ? j / across * o.leading + j % across * CHUNK : j * CHUNK;
  }
  return swizzled_address((o.start + offset) & (ARENA_BYTES - 1), o.span);
}

// Calls f(address, line, block) for every chunk of lines [first, last) of A (K-major), or of all of B.
template <class F>
void for_chunks(const Operand &o, int first, int last, F f) {
  const int lines = o.mn_major ? 16 : last, blocks = o.mn_major ? last / 8 : LINE_CHUNKS;
  for (int line = o.mn_major ? 0 : first; line < lines; ++line) {
    for (int block = 0; block < blocks; ++block) f(chunk_address(o, line, block), line, block);
  }
}

// The operand is read by core matrices, 8 lines of a chunk each.
inline void count_operand(Block &block, const Operand &o, int lines, Site site) {
  const int last = o.mn_major ? 16 : lines, blocks = o.mn_major ? lines / 8 : LINE_CHUNKS;
  for (int line = 0; line < last; line += 8) {
    for (int j = 0; j < blocks; ++j) {
      uint32_t rows[8];
      for (int r = 0; r < 8; ++r) rows[r] = chunk_address(o, line + r, j);
      count_matrix_rows(block, rows, site);
    }
  }
}

// A swizzle counts address bits from the start of a pattern, which spans 8 rows.
inline void check_descriptor(const Operand &o, const char *name, Site site) {
  if (o.base_offset) report(EMULATOR_BAD_WGMMA, site, "descriptor of %s: base offset %u is not modelled", name, o.base_offset);
  if (o.span != CHUNK && (o.start & (8 * o.span - 1) & ~(o.span - 1))) {
    report(EMULATOR_BAD_WGMMA, site, "descriptor of %s: address %u does not lie in the first row of a pattern of %u bytes", name,
           o.start, 8 * o.span);
  }
}

}  // namespace emulator

#endif
