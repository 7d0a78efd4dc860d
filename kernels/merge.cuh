/* Sums of an online softmax over disjoint keys: merging them, and what they come to.
 *
 * A row's sums are m, the maximum of its scores or what is some headroom below it (softmax.cuh), l, the sum of 2^(score - m), and
 * o, that of 2^(score - m) v. A row that has seen no key has m = -inf, l = 0, o = 0. Parts are merged one after the other, from
 * the first on, with these functions: so a block that walks the splits of a request in turn has the bits of blocks that walk them
 * apart. The first part joins sums that have seen no key, and comes out as it went in: its weight is 2^0. */
#ifndef SPINDLE_KERNELS_MERGE_CUH
#define SPINDLE_KERNELS_MERGE_CUH

#include "prim/prim.cuh"

namespace spindle {

/* What m counts in: scores in units of log 2, or natural logarithms (an LSE is the m of a part whose l is 1). Differences are
 * taken first, for they are exact where it matters: an LSE of 1e5 times log2(e) would be off by 1e-2. */
struct Log2Units {
  static constexpr float TO_LOG2 = 1.0f, TO_NATURAL = 0.6931471805599453f, FROM_NATURAL = 1.4426950408889634f;
};
struct NaturalUnits {
  static constexpr float TO_LOG2 = 1.4426950408889634f, TO_NATURAL = 1.0f, FROM_NATURAL = 1.0f;
};

/* 2^(m - top); 0 for sums that have seen nothing, where the difference may be -inf - -inf. */
template <class Units>
SPINDLE__DEVICE float merge_weight(float m, float top) {
  return m == -INFINITY ? 0.0f : prim::ex2_approx((m - top) * Units::TO_LOG2);
}

/* (m, l) joins (m_all, l_all). What is to be done with o: merged. */
struct MergeWeights {
  float all, part;
};
template <class Units = Log2Units>
SPINDLE__DEVICE MergeWeights merge(float &m_all, float &l_all, float m, float l) {
  const float top = fmaxf(m_all, m);
  const MergeWeights w = {merge_weight<Units>(m_all, top), merge_weight<Units>(m, top)};
  l_all = fmaf(w.all, l_all, w.part * l);
  m_all = top;
  return w;
}

/* A part without weight counts for nothing, whatever its o holds: 0 x NaN would not be 0. */
SPINDLE__DEVICE float merged(const MergeWeights &w, float o_all, float o) {
  return fmaf(w.all, o_all, w.part == 0.0f ? 0.0f : w.part * o);
}

/* What o is to be multiplied by, and the LSE. sink: a score that joins the softmax and carries no value; -inf: none. LSE and sink
 * are natural, whatever m is. Without key and sink: 0 and -inf. */
template <class Units = Log2Units>
SPINDLE__DEVICE float finish(float m, float l, float sink, float &lse) {
  const MergeWeights w = merge<Units>(m, l, sink * Units::FROM_NATURAL, 1.0f);
  lse = l == 0.0f ? -INFINITY : fmaf(m, Units::TO_NATURAL, log2f(l) * Log2Units::TO_NATURAL);
  return l == 0.0f ? 0.0f : w.all / l;
}

}  // namespace spindle

#endif
