/* What the conformance programs compare with. Nothing of the emulator's: they run on GPUs too. */
#ifndef EMULATOR_CONFORMANCE_SUPPORT_H
#define EMULATOR_CONFORMANCE_SUPPORT_H

#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace conformance {

inline int failures;

inline void check(cudaError_t error, const char *what) {
  if (error == cudaSuccess) return;
  printf("FAIL %s: %s\n", what, cudaGetErrorString(error));
  ++failures;
}

/* Device memory that holds a vector. */
template <class T>
struct Buffer {
  T *device = nullptr;
  size_t size;
  explicit Buffer(const std::vector<T> &host) : size(host.size()) {
    check(cudaMalloc((void **)&device, size * sizeof(T)), "cudaMalloc");
    check(cudaMemcpy(device, host.data(), size * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  explicit Buffer(size_t n) : Buffer(std::vector<T>(n)) {}
  Buffer(const Buffer &) = delete;
  ~Buffer() { cudaFree(device); }
  std::vector<T> read() const {
    std::vector<T> host(size);
    check(cudaMemcpy(host.data(), device, size * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy back");
    return host;
  }
};

using Expected = std::function<double(size_t)>;

/* Within relative and absolute error; expected NaN takes any NaN. */
template <class T>
void expect(const std::string &name, const std::vector<T> &got, const Expected &expected, double rel = 0, double abs = 0) {
  for (size_t i = 0; i < got.size(); ++i) {
    const double e = expected(i), g = (double)got[i];
    const bool same = std::isnan(e) ? std::isnan(g) : e == g || std::fabs(g - e) <= abs + rel * std::fabs(e);
    if (same) continue;
    printf("FAIL %s: element %zu is %.9g, expected %.9g\n", name.c_str(), i, g, e);
    ++failures;
    return;
  }
  printf("ok   %s\n", name.c_str());
}

inline float bits_to_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

/* ---- Numbers: decoding by the definition of the format, rounding by search ------------------------------------------- */

struct Format {
  int exponent_bits, mantissa_bits;
};
constexpr Format BF16 = {8, 7}, F16 = {5, 10},
                 E4M3 = {4, 3}; /* E4M3 has numbers where others have infinities: not decoded here */

inline double decode(uint32_t bits, Format f) {
  const int bias = (1 << (f.exponent_bits - 1)) - 1, top = (1 << f.exponent_bits) - 1;
  const double sign = bits >> (f.exponent_bits + f.mantissa_bits) & 1 ? -1 : 1;
  const int exponent = (int)(bits >> f.mantissa_bits) & top;
  const double mantissa = (double)(bits & ((1u << f.mantissa_bits) - 1)) / (1 << f.mantissa_bits);
  if (exponent == top) return mantissa ? NAN : sign * INFINITY;
  return exponent ? sign * (1 + mantissa) * exp2(exponent - bias) : sign * mantissa * exp2(1 - bias);
}

/* The bits of a number that the format has. */
inline uint32_t encode(double x, Format f) {
  uint32_t bits = 0;
  while (decode(bits, f) != x) ++bits;
  return bits;
}

}  // namespace conformance

#endif
