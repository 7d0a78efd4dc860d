// The loops that take most time, with AVX2 where there is AVX2.
#ifndef EMULATOR_VECTORS_H
#define EMULATOR_VECTORS_H

#include <cstdint>

namespace emulator {

// The arithmetic of mma and wgmma: D[rows][columns] += A[rows][depth] B[depth][columns], each element in the order of depth,
// whatever the extents are.
void multiply(float *d, const float *a, const float *b, int rows, int columns, int depth);

// Clocks: to[i] becomes the larger of to[i] and from[i].
void join(uint32_t *to, const uint32_t *from, int n);

}  // namespace emulator

#endif
