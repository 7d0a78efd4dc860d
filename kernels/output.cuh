/* The sums of an item's rows between the segments that a block walks, and what becomes of them: rows of O and LSE, partial
 * results of a split, or the sums of splits walked in turn. A warp has its own rows. */
#ifndef SPINDLE_KERNELS_OUTPUT_CUH
#define SPINDLE_KERNELS_OUTPUT_CUH

#include "merge.cuh"
#include "rows.cuh"
#include "work.cuh"

namespace spindle {

/* Rows of D floats in shared memory. Chunks of 32 bytes are permuted so that four rows of one chunk touch all banks once: what 16
 * lanes of an accumulator fragment do. */
template <int D>
struct SumsTile {
  SPINDLE__DEVICE static uint32_t element(int row, int channel) {
    return (uint32_t)(row * 4 * D + ((channel / 8 ^ row % 4) * 32) + channel % 8 * 4);
  }
};

/* A row of them, as rows.cuh has rows. */
template <int D>
struct SumsRow {
  uint32_t tile;
  int row;
  SPINDLE__DEVICE void get4(int channel, float (&x)[4]) const {
    const float4 v = prim::ld_shared<float4>(tile + SumsTile<D>::element(row, channel));
    x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
  }
  SPINDLE__DEVICE void put4(int channel, const float (&x)[4]) const {
    prim::st_shared(tile + SumsTile<D>::element(row, channel), make_float4(x[0], x[1], x[2], x[3]));
  }
};

SPINDLE__DEVICE int64_t output_row(const spindle__attention_params &p, const spindle__prepared &r, int row, int head) {
  return r.number * p.args.o.batch + (int64_t)(r.request.q_begin + row) * p.args.o.row + head * p.args.o.head;
}

/* Row of partial results. */
SPINDLE__DEVICE int64_t partial_row(const spindle__attention_params &p, const spindle__prepared &r, int split, int row,
                                    int head) {
  return r.work.first_partial + ((int64_t)row * p.shape.num_q_heads + head) * r.work.num_splits + split;
}

/* What O of a row with these sums is to be multiplied by: sums that are partial are not, so the values' scale is in O once. One
 * lane stores the row's LSE. */
SPINDLE__DEVICE float finish_row(const spindle__attention_params &p, const spindle__prepared &r, int row, int head, float maximum,
                                 float sum, bool stores) {
  const spindle_attention_args &a = p.args;
  float lse;
  float factor = finish(maximum, sum, a.sink_logits && p.with_sinks ? a.sink_logits[head] : -INFINITY, lse);
  if (a.v.scale) factor *= a.v.scale[head / p.schedule.group * a.v.scale_head];
  if (stores && a.lse.data)
    a.lse.data[r.number * a.lse.batch + (int64_t)(r.request.q_begin + row) * a.lse.row + head * a.lse.head] = lse;
  return factor;
}

/* Of the WarpRows rows that a warp has of an item. Every lane of the warp calls, no call needs a barrier around it. */
template <class T, int D, int WarpRows, class Work>
struct Output {
  static constexpr int UNITS = WarpRows * D / 4; /* of four channels of a row */

  const spindle__attention_params &p;
  const Work &work;
  const uint32_t tile; /* SumsTile: O */
  float2 *const sums;  /* rows' maximum and sum */

  SPINDLE__DEVICE Output(const spindle__attention_params &params, const Work &of, const void *o, float2 *of_rows)
      : p(params), work(of), tile(prim::shared_address(o)), sums(of_rows) {}

  SPINDLE__DEVICE static int first_row() { return prim::warp() * WarpRows; }
  SPINDLE__DEVICE SumsRow<D> row_of(int unit) const { return {tile, first_row() + unit / (D / 4)}; }
  SPINDLE__DEVICE static int channel_of(int unit) { return unit % (D / 4) * 4; }

  /* Rows that have seen no key. */
  SPINDLE__DEVICE void clear() const {
    const float none[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int unit = prim::lane(); unit < UNITS; unit += 32) row_of(unit).put4(channel_of(unit), none);
    if (prim::lane() < WarpRows) sums[first_row() + prim::lane()] = make_float2(-INFINITY, 0.0f);
    prim::sync_warp();
  }

  /* ---- Rows of O ---- */

  /* A lane a row: LSE, and in place of the maximum what O is to be multiplied by; or a partial maximum and sum. */
  SPINDLE__DEVICE void finish_sums(const spindle__prepared &r) const {
    const int at = first_row() + prim::lane(), row = prim::lane() < WarpRows ? work.row[at] : -1;
    if (row >= 0) {
      const float2 sum = sums[at];
      const int head = work.head[at];
      const bool split = r.work.num_splits > 1;
      if (split) prim::st_global((float2 *)p.partial_ml + partial_row(p, r, work.item.split, row, head), sum);
      sums[at].x = split ? 1.0f : finish_row(p, r, row, head, sum.x, sum.y, true);
    }
    prim::sync_warp();
  }

  template <class Row>
  SPINDLE__DEVICE void store_rows(const spindle__prepared &r, bool split) const {
    const int channels = split ? D : p.shape.head_dim_v;
    for (int unit = prim::lane(); unit < UNITS; unit += 32) {
      const SumsRow<D> from = row_of(unit);
      const int channel = channel_of(unit), row = work.row[from.row], head = work.head[from.row];
      if (row < 0 || channel >= channels) continue;
      float x[4];
      from.get4(channel, x);
      SPINDLE__UNROLL
      for (int k = 0; k < 4; ++k) x[k] *= sums[from.row].x;
      const Row to = split ? Row::of(p.partial_o, partial_row(p, r, work.item.split, row, head) * p.o_stride)
                           : Row::of(p.args.o.data, output_row(p, r, row, head));
      put_some(to, channel, channels, x);
    }
  }

  /* The item's rows of O and LSE; of a split the partial results: O not divided by the sum, the maximum and the sum. */
  SPINDLE__DEVICE void store() const {
    const spindle__prepared &r = p.state.requests[work.request];
    const bool split = r.work.num_splits > 1;
    finish_sums(r);
    if (split || p.shape.o_dtype == SPINDLE_F32)
      store_rows<GlobalRow<float>>(r, split);
    else
      store_rows<GlobalRow<T>>(r, false);
  }

  /* ---- Splits in turn: the sums of those that the block has walked so far are in its part of scratch ---- */

  SPINDLE__DEVICE GlobalRow<float> kept_row(int at) const {
    return GlobalRow<float>::of(p.whole, ((int64_t)prim::block_x() * Work::ROWS + at) * (p.o_stride + 8));
  }
  SPINDLE__DEVICE float2 *kept_sum(int at) const { return (float2 *)(kept_row(at).data + p.o_stride); }

  SPINDLE__DEVICE void keep() const {
    for (int unit = prim::lane(); unit < UNITS; unit += 32) {
      const SumsRow<D> from = row_of(unit);
      float x[4];
      from.get4(channel_of(unit), x);
      kept_row(from.row).put4(channel_of(unit), x);
    }
    const int at = first_row() + prim::lane();
    if (prim::lane() < WarpRows) prim::st_global(kept_sum(at), sums[at]);
    prim::sync_warp();
  }

  SPINDLE__DEVICE void add_splits_before() const {
    for (int unit = prim::lane(); unit < UNITS; unit += 32) {
      const SumsRow<D> part = row_of(unit);
      float2 all = prim::ld_global(kept_sum(part.row));
      const MergeWeights w = merge(all.x, all.y, sums[part.row].x, sums[part.row].y);
      float x[4], kept[4];
      part.get4(channel_of(unit), x);
      kept_row(part.row).get4(channel_of(unit), kept);
      SPINDLE__UNROLL
      for (int k = 0; k < 4; ++k) x[k] = merged(w, kept[k], x[k]);
      part.put4(channel_of(unit), x);
    }
    prim::sync_warp();
    const int at = first_row() + prim::lane();
    if (prim::lane() < WarpRows) {
      float2 all = prim::ld_global(kept_sum(at));
      merge(all.x, all.y, sums[at].x, sums[at].y);
      sums[at] = all;
    }
    prim::sync_warp();
  }
};

}  // namespace spindle

#endif
