// The arithmetic of mma and wgmma.
#ifndef EMULATOR_MULTIPLY_H
#define EMULATOR_MULTIPLY_H

namespace emulator {

// D[rows][columns] += A[rows][depth] B[depth][columns], each element in the order of depth, whatever the extents are.
void multiply(float *d, const float *a, const float *b, int rows, int columns, int depth);

}  // namespace emulator

#endif
