#include "vectors.h"

namespace emulator {

#define INLINED static inline __attribute__((always_inline))

INLINED void multiply_loop(float *d, const float *a, const float *b, int rows, int columns, int depth) {
  for (int row = 0; row < rows; ++row) {
    float *__restrict to = d + row * columns;
    for (int k = 0; k < depth; ++k) {
      const float x = a[row * depth + k];
      const float *__restrict from = b + k * columns;
      for (int column = 0; column < columns; ++column) to[column] += x * from[column];
    }
  }
}

INLINED void join_loop(uint32_t *__restrict to, const uint32_t *__restrict from, int n) {
  for (int i = 0; i < n; ++i) to[i] = to[i] > from[i] ? to[i] : from[i];
}

static void multiply_any(float *d, const float *a, const float *b, int rows, int columns, int depth) {
  multiply_loop(d, a, b, rows, columns, depth);
}
static void join_any(uint32_t *to, const uint32_t *from, int n) { join_loop(to, from, n); }

#ifdef __x86_64__
#define AVX2 __attribute__((target("avx2,fma"))) static
AVX2 void multiply_avx2(float *d, const float *a, const float *b, int rows, int columns, int depth) {
  multiply_loop(d, a, b, rows, columns, depth);
}
AVX2 void join_avx2(uint32_t *to, const uint32_t *from, int n) { join_loop(to, from, n); }
static bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#else
static void multiply_avx2(float *, const float *, const float *, int, int, int) {}
static void join_avx2(uint32_t *, const uint32_t *, int) {}
static bool has_avx2() { return false; }
#endif

static const bool avx2 = has_avx2();

void multiply(float *d, const float *a, const float *b, int rows, int columns, int depth) {
  (avx2 ? multiply_avx2 : multiply_any)(d, a, b, rows, columns, depth);
}

void join(uint32_t *to, const uint32_t *from, int n) { (avx2 ? join_avx2 : join_any)(to, from, n); }

}  // namespace emulator
