/* The baselines' shape, inputs, and causal attention in float64. Host only. */
#ifndef SPINDLE_BENCH_BASELINES_EXACT_H
#define SPINDLE_BENCH_BASELINES_EXACT_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace baseline {

struct Shape {
  int batch, heads, kv_heads, dim, tokens;
  int64_t q_count() const { return (int64_t)batch * tokens * heads * dim; }
  int64_t k_count() const { return (int64_t)batch * tokens * kv_heads * dim; }
};

template <class T>
std::vector<T> random_values(int64_t count, uint64_t seed) {
  std::vector<T> out((size_t)count);
  for (T &x : out) {
    uint64_t z = seed += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    const int64_t sum = (int64_t)(z & 0xffff) + (int64_t)(z >> 16 & 0xffff) + (int64_t)(z >> 32 & 0xffff) + (int64_t)(z >> 48);
    x = (T)((float)(sum - 131070) / 37837.23f); /* near normal */
  }
  return out;
}

/* Of o against attention in float64. */
template <class T>
double largest_error(const Shape &s, const std::vector<T> &q, const std::vector<T> &k, const std::vector<T> &v,
                     const std::vector<T> &o) {
  double worst = 0;
  for (int b = 0; b < s.batch; ++b)
    for (int h = 0; h < s.heads; ++h)
      for (int i = 0; i < s.tokens; ++i) {
        const T *q_row = &q[(size_t)((((int64_t)b * s.tokens + i) * s.heads + h) * s.dim)];
        const T *o_row = &o[(size_t)((((int64_t)b * s.tokens + i) * s.heads + h) * s.dim)];
        const size_t k_first = (size_t)(((int64_t)b * s.tokens * s.kv_heads + h / (s.heads / s.kv_heads)) * s.dim);
        std::vector<double> sum((size_t)s.dim);
        double total = 0;
        for (int j = 0; j <= i; ++j) {
          const size_t at = k_first + (size_t)j * (size_t)(s.kv_heads * s.dim);
          double dot = 0;
          for (int d = 0; d < s.dim; ++d) dot += (double)(float)q_row[d] * (double)(float)k[at + (size_t)d];
          const double weight = exp(dot / sqrt(s.dim)); /* normal inputs: no overflow */
          total += weight;
          for (int d = 0; d < s.dim; ++d) sum[(size_t)d] += weight * (double)(float)v[at + (size_t)d];
        }
        for (int d = 0; d < s.dim; ++d) worst = std::max(worst, fabs(sum[(size_t)d] / total - (double)(float)o_row[d]));
      }
  return worst;
}

}  // namespace baseline

#endif
