// What a CUtensorMap says, here in its opaque words: see driver.cpp.
#ifndef EMULATOR_TENSOR_MAP_H
#define EMULATOR_TENSOR_MAP_H

#include <cstdint>

namespace emulator {

struct TensorMap {
  uint64_t magic;
  char *base;
  uint64_t stride[5];  // bytes; [0] of an element
  uint32_t last[5];    // extent - 1: extents go to 2^32
  uint16_t box[5];
  uint8_t rank, span;  // bytes of the swizzle's rows; 16: none
};
constexpr uint64_t TENSOR_MAP_MAGIC = 0x70616d726f736e74;
static_assert(sizeof(TensorMap) <= 128, "a CUtensorMap has 128 bytes");

// Where a swizzle puts the byte at a shared address. From the manuals' pictures: 16-byte chunk c of row r lies at c ^ r within
// rows of `span` bytes, r counting units of 128 bytes.
inline uint32_t swizzled_address(uint32_t address, uint32_t span) {
  return (address & ~(span - 16)) | (((address / 16) ^ (address / 128)) * 16 & (span - 16));
}

}  // namespace emulator

#endif
