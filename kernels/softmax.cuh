/* Scores to weights: scale, softcap, bias, mask and the online softmax, on fragments of mma.m16n8k16 accumulators.
 *
 * A thread has rows 16 m + 8 h + g of columns 8 n + 2 t + e as s[m][n][2 h + e], g = lane / 4, t = lane % 4. Scores are in units
 * of log 2. A row's maximum is kept by all four lanes of a quad, its sum by each for its own columns. */
#ifndef SPINDLE_KERNELS_SOFTMAX_CUH
#define SPINDLE_KERNELS_SOFTMAX_CUH

#include "prim/prim.cuh"

namespace spindle {

/* How far below the largest score a row's m is kept, in units of log 2. Weights of T are 2^(score - m): those of bf16 have the
 * range of float, but of f16 one of 2^-24 would be the least above 0, and a million keys whose scores are so far below that of a
 * sink are 6 % of the sum. So f16 uses its whole range: weights up to 2^15. Sums are of the same weights, so nothing else
 * depends on it. */
template <class T>
constexpr float HEADROOM = 0.0f;
template <>
constexpr float HEADROOM<f16> = 15.0f;

/* What scores of a row are lowered by, and what its sums so far must be multiplied by. */
struct Shift {
  float by, rescale;
};

/* A row half (h) of a 16-row block raises its maximum, less the headroom. Scores are s scaled by scale >= 0. */
template <class T, int N>
SPINDLE__DEVICE Shift raise_maximum(const float (&s)[N][4], int h, float scale, float &maximum) {
  float top = s[0][2 * h];
  SPINDLE__UNROLL
  for (int n = 0; n < N; ++n) top = fmaxf(top, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
  top = fmaxf(top, prim::shfl_xor(top, 1));
  top = fmaxf(top, prim::shfl_xor(top, 2));
  top = fmaxf(maximum, fmaf(top, scale, -HEADROOM<T>));
  const float shift = top == -INFINITY ? 0.0f : top; /* a row that has seen no key: else -inf - -inf */
  const float rescale = prim::ex2_approx(maximum - shift);
  maximum = top;
  return {shift, rescale};
}

/* s becomes the weights p, packed as an operand of the second product. Returns what O must be multiplied by. */
template <class T, int N>
SPINDLE__DEVICE float softmax_row(const float (&s)[N][4], uint32_t (&p)[N][2], int h, float scale, float &maximum, float &sum) {
  const Shift shift = raise_maximum<T>(s, h, scale, maximum);
  sum *= shift.rescale;
  SPINDLE__UNROLL
  for (int n = 0; n < N; ++n) {
    const float first = prim::ex2_approx(fmaf(s[n][2 * h], scale, -shift.by));
    const float second = prim::ex2_approx(fmaf(s[n][2 * h + 1], scale, -shift.by));
    sum += first + second;
    p[n][h] = prim::pack<T>(first, second);
  }
  return shift.rescale;
}

/* The same in place, for operands that are still read: pack_weights once they are not. */
template <class T, int N>
SPINDLE__DEVICE float softmax_row(float (&s)[N][4], int h, float scale, float &maximum, float &sum) {
  const Shift shift = raise_maximum<T>(s, h, scale, maximum);
  sum *= shift.rescale;
  SPINDLE__UNROLL
  for (int n = 0; n < N; ++n) {
    s[n][2 * h] = prim::ex2_approx(fmaf(s[n][2 * h], scale, -shift.by));
    s[n][2 * h + 1] = prim::ex2_approx(fmaf(s[n][2 * h + 1], scale, -shift.by));
    sum += s[n][2 * h] + s[n][2 * h + 1];
  }
  return shift.rescale;
}

/* p[i]: A of 16 columns. */
template <class T, int N>
SPINDLE__DEVICE void pack_weights(const float (&s)[N][4], uint32_t (&p)[N / 2][4]) {
  SPINDLE__UNROLL
  for (int i = 0; i < 2 * N; ++i) p[i / 4][i % 4] = prim::pack<T>(s[i / 2][i % 2 * 2], s[i / 2][i % 2 * 2 + 1]);
}

/* Columns that the row does not see: -inf. A select, for the score may be NaN. word: which 64 columns `seen` is of. */
template <int N>
SPINDLE__DEVICE void mask_row(float (&s)[N][4], int h, uint64_t seen, int word = 0) {
  const uint64_t mine = seen >> (2 * (prim::lane() % 4));
  SPINDLE__UNROLL
  for (int i = 0; i < min(N - 8 * word, 8); ++i) {
    float(&two)[4] = s[8 * word + i];
    two[2 * h] = mine >> (8 * i) & 1 ? two[2 * h] : -INFINITY;
    two[2 * h + 1] = mine >> (8 * i + 1) & 1 ? two[2 * h + 1] : -INFINITY;
  }
}

/* c tanh(x / c) = c (1 - 2 / (2^(2 x log2(e) / c) + 1)): accurate to float, where tanh.approx is off by 2^-11. */
template <int N>
SPINDLE__DEVICE void softcap_row(float (&s)[N][4], int h, float cap) {
  const float inner = 2.0f * 1.44269504f / cap;
  SPINDLE__UNROLL
  for (int n = 0; n < N; ++n) {
    s[n][2 * h] = cap - 2.0f * cap * prim::rcp_approx(prim::ex2_approx(s[n][2 * h] * inner) + 1.0f);
    s[n][2 * h + 1] = cap - 2.0f * cap * prim::rcp_approx(prim::ex2_approx(s[n][2 * h + 1] * inner) + 1.0f);
  }
}

/* A bias of a head as a function of the distance, in units of log 2. */
struct Bias {
  int32_t kind;
  float a, p;
};

SPINDLE__DEVICE float bias_at(const Bias &b, float distance) {
  if (b.kind == SPINDLE_BIAS_ALIBI) return -b.a * 1.44269504f * distance;
  if (b.kind == SPINDLE_BIAS_KERPLE_LOG) return -b.p * prim::lg2_approx(fmaf(b.a, distance, 1.0f));
  return -b.a * 1.44269504f * prim::ex2_approx(b.p * prim::lg2_approx(distance));
}

/* distance(c): |i - j| of column c. */
template <int N, class Distance>
SPINDLE__DEVICE void add_bias_row(float (&s)[N][4], int h, const Bias &bias, Distance distance) {
  SPINDLE__UNROLL
  for (int n = 0; n < N; ++n) {
    const int c = 8 * n + 2 * (prim::lane() % 4);
    s[n][2 * h] += bias_at(bias, distance(c));
    s[n][2 * h + 1] += bias_at(bias, distance(c + 1));
  }
}

}  // namespace spindle

#endif
