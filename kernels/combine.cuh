/* Partial results of rows over disjoint keys become whole ones: spindle_combine, spindle_combine_scale, and the rows of requests
 * whose splits were walked by different blocks.
 *
 * Work. A warp takes a row of a head; a lane has four channels in 128, its warp the parts from first to last. Every lane merges
 * all (m, l) for itself: no exchange, one order, the same bits whichever warp and grid.
 * Memory. Each part's O is read once: 512 bytes a warp and part at 128 floats, AHEAD parts on their way before they are merged.
 * At 24 warps an SM that is 48 KB, where 15 KB would cover 800 clk at what an H200's SM can copy (18.6 bytes a clk). Per part a
 * warp issues about 40 instructions for 512 bytes, 27 clk of memory: the 4 schedulers of an SM do that in 10. Rows of more than
 * 128 channels walk their (m, l) again for every 128. Not measured yet.
 * In place. A lane has read its channels of all parts before it writes them, and all lanes have read the LSE of all parts before
 * one writes (sync_warp).
 * Numerics. merge.cuh. What is rounded to O's type is the sum. */
#ifndef SPINDLE_KERNELS_COMBINE_CUH
#define SPINDLE_KERNELS_COMBINE_CUH

#include "output.cuh"

namespace spindle {

constexpr int COMBINE_THREADS = 128, COMBINE_WARPS = COMBINE_THREADS / 32, COMBINE_BLOCKS = 6, COMBINE_AHEAD = 4;

SPINDLE__DEVICE int64_t combine_warp() { return (int64_t)prim::block_x() * COMBINE_WARPS + prim::warp(); }
SPINDLE__DEVICE int64_t combine_warps() { return (int64_t)prim::grid_x() * COMBINE_WARPS; }

/* ---- Parts of one row ---- */

/* Of spindle_combine: an LSE is the maximum of sums whose l is 1. */
template <class T>
struct CombinedParts {
  using Units = NaturalUnits;
  const spindle_combine_args &a;
  int64_t row;
  int head;
  SPINDLE__DEVICE int count() const { return a.parts; }
  SPINDLE__DEVICE void sums(int part, float &m, float &l) const {
    m = prim::ld_global(a.part_lse.data + part * a.part_lse_stride + row * a.part_lse.row + head * a.part_lse.head);
    l = 1.0f;
  }
  SPINDLE__DEVICE GlobalRow<T> o(int part) const {
    return GlobalRow<T>::of(a.part_o.data, part * a.part_o_stride + row * a.part_o.row + head * a.part_o.head);
  }
};

/* Of a request that was split. */
struct SplitParts {
  using Units = Log2Units;
  const spindle__attention_params &p;
  int64_t first;
  int splits;
  SPINDLE__DEVICE int count() const { return splits; }
  SPINDLE__DEVICE void sums(int part, float &m, float &l) const {
    const float2 ml = prim::ld_global((const float2 *)p.partial_ml + first + part);
    m = ml.x;
    l = ml.y;
  }
  SPINDLE__DEVICE GlobalRow<float> o(int part) const { return GlobalRow<float>::of(p.partial_o, (first + part) * p.o_stride); }
};

struct Sums {
  float m, l, o[4];
};

/* All parts of four channels of a row; channel >= channels, or WithO false: m and l alone. */
template <bool WithO, class Parts>
SPINDLE__DEVICE Sums merge_parts(const Parts &parts, int channel, int channels) {
  Sums sums = {-INFINITY, 0.0f, {0.0f, 0.0f, 0.0f, 0.0f}};
  const int count = parts.count();
  for (int part = 0; part < count; part += COMBINE_AHEAD) {
    float m[COMBINE_AHEAD], l[COMBINE_AHEAD], o[COMBINE_AHEAD][4];
    SPINDLE__UNROLL
    for (int a = 0; a < COMBINE_AHEAD; ++a) {
      const int at = min(part + a, count - 1);
      parts.sums(at, m[a], l[a]);
      if constexpr (WithO) get_some(parts.o(at), channel, channels, o[a]);
    }
    SPINDLE__UNROLL
    for (int a = 0; a < COMBINE_AHEAD; ++a) {
      if (part + a >= count) break;
      const MergeWeights w = merge<typename Parts::Units>(sums.m, sums.l, m[a], l[a]);
      SPINDLE__UNROLL
      for (int k = 0; WithO && k < 4; ++k) sums.o[k] = merged(w, sums.o[k], o[a][k]);
    }
  }
  return sums;
}

SPINDLE__DEVICE void scale4(float (&x)[4], float factor) {
  SPINDLE__UNROLL
  for (int k = 0; k < 4; ++k) x[k] *= factor;
}

/* ---- Kernels ---- */

template <class T>
__global__ void __launch_bounds__(COMBINE_THREADS, COMBINE_BLOCKS) combine(const __grid_constant__ spindle_combine_args a) {
  for (int64_t x = combine_warp(); x < (int64_t)a.rows * a.num_q_heads; x += combine_warps()) {
    const CombinedParts<T> parts = {a, x / a.num_q_heads, (int)(x % a.num_q_heads)};
    const float sink = a.sink_logits ? a.sink_logits[parts.head] : -INFINITY;
    float lse = -INFINITY;
    for (int first = 0; first < a.head_dim_v; first += 128) {
      const int channel = first + 4 * prim::lane();
      Sums sums = merge_parts<true>(parts, channel, a.head_dim_v);
      scale4(sums.o, finish<NaturalUnits>(sums.m, sums.l, sink, lse));
      put_some(AnyRow{a.o.data, parts.row * a.o.row + parts.head * a.o.head, a.o_dtype, 1.0f}, channel, a.head_dim_v, sums.o);
    }
    prim::sync_warp();
    if (a.lse.data && prim::lane() == 0) a.lse.data[parts.row * a.lse.row + parts.head * a.lse.head] = lse;
  }
}

/* part_o is this rank's own part. */
template <class T>
__global__ void __launch_bounds__(COMBINE_THREADS, COMBINE_BLOCKS) combine_scale(const __grid_constant__ spindle_combine_args a) {
  for (int64_t x = combine_warp(); x < (int64_t)a.rows * a.num_q_heads; x += combine_warps()) {
    const CombinedParts<T> parts = {a, x / a.num_q_heads, (int)(x % a.num_q_heads)};
    const Sums sums = merge_parts<false>(parts, 0, 0);
    float own, one, lse;
    parts.sums(a.own_part, own, one);
    const float all = finish<NaturalUnits>(sums.m, sums.l, a.sink_logits ? a.sink_logits[parts.head] : -INFINITY, lse);
    const MergeWeights w = {0.0f, merge_weight<NaturalUnits>(own, sums.m) * all};
    for (int channel = 4 * prim::lane(); channel < a.head_dim_v; channel += 128) {
      float o[4];
      get_some(parts.o(0), channel, a.head_dim_v, o);
      SPINDLE__UNROLL
      for (int k = 0; k < 4; ++k) o[k] = merged(w, 0.0f, o[k]);
      put_some(AnyRow{a.o.data, parts.row * a.o.row + parts.head * a.o.head, a.o_dtype, 1.0f}, channel, a.head_dim_v, o);
    }
    prim::sync_warp();
    if (a.lse.data && prim::lane() == 0) a.lse.data[parts.row * a.lse.row + parts.head * a.lse.head] = lse;
  }
}

SPINDLE__DEVICE void merge_row_splits(const spindle__attention_params &p, const spindle__prepared &r, int row, int head) {
  if (r.request.q_begin + (int64_t)row >= p.args.q_rows) return;
  const SplitParts parts = {p, partial_row(p, r, 0, row, head), r.work.num_splits};
  for (int first = 0; first < p.shape.head_dim_v; first += 128) {
    const int channel = first + 4 * prim::lane();
    Sums sums = merge_parts<true>(parts, channel, p.shape.head_dim_v);
    scale4(sums.o, finish_row(p, r, row, head, sums.m, sums.l, first + prim::lane() == 0));
    put_some(AnyRow{p.args.o.data, output_row(p, r, row, head), p.shape.o_dtype, 1.0f}, channel, p.shape.head_dim_v, sums.o);
  }
}

/* Requests are looked through 32 at a time, a lane each, for those that were split. Their rows go to the warps in turn. */
__global__ void __launch_bounds__(COMBINE_THREADS, COMBINE_BLOCKS)
    merge_splits(const __grid_constant__ spindle__attention_params p) {
  const int num_requests = p.state.totals->num_partials ? p.state.totals->num_requests : 0, heads = p.shape.num_q_heads;
  int64_t next = combine_warp(); /* row of this warp, counted from the request's first */
  for (int first = 0; first < num_requests; first += 32) {
    const int mine = min(first + prim::lane(), num_requests - 1);
    uint32_t split = prim::ballot(first + prim::lane() < num_requests && p.state.requests[mine].work.num_splits > 1);
    for (int k = first; split; split >>= 1, ++k) {
      if (!(split & 1)) continue;
      const spindle__prepared &r = p.state.requests[k];
      const int64_t rows = (int64_t)r.request.q_len * heads;
      for (; next < rows; next += combine_warps()) merge_row_splits(p, r, (int)(next / heads), (int)(next % heads));
      next -= rows;
    }
  }
}

}  // namespace spindle

#endif
