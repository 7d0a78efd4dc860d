#include "multiply.h"

namespace emulator {

#define MULTIPLY                                                                       \
  for (int row = 0; row < rows; ++row) {                                               \
    float *__restrict to = d + row * columns;                                          \
    for (int k = 0; k < depth; ++k) {                                                  \
      const float x = a[row * depth + k];                                              \
      const float *__restrict from = b + k * columns;                                  \
      for (int column = 0; column < columns; ++column) to[column] += x * from[column]; \
    }                                                                                  \
  }
static void multiply_any(float *d, const float *a, const float *b, int rows, int columns, int depth) { MULTIPLY }
#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static void multiply_avx2(float *d, const float *a, const float *b, int rows, int columns,
                                                              int depth) {
  MULTIPLY
}
static bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#else
static void multiply_avx2(float *, const float *, const float *, int, int, int) {}
static bool has_avx2() { return false; }
#endif
#undef MULTIPLY

void multiply(float *d, const float *a, const float *b, int rows, int columns, int depth) {
  static const bool avx2 = has_avx2();
  (avx2 ? multiply_avx2 : multiply_any)(d, a, b, rows, columns, depth);
}

}  // namespace emulator
