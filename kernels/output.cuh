/* Rows of O and LSE from the running sums of a block: finished, as partial results of a split, or added to what the block has
 * walked before. `Kernel` is a kernel's state, as Prefill has it: fragments o[M][CHUNKS][C][4] and rows' maximum and sum. */
#ifndef SPINDLE_KERNELS_OUTPUT_CUH
#define SPINDLE_KERNELS_OUTPUT_CUH

#include "keys.cuh"
#include "merge.cuh"
#include "rotate.cuh"

namespace spindle {

/* The sum over a row, from its quad's four. */
SPINDLE__DEVICE float sum_of_quad(float x) {
  x += prim::shfl_xor(x, 1);
  x += prim::shfl_xor(x, 2);
  return x;
}

/* ---- Rows of O ---- */

SPINDLE__DEVICE int64_t output_row(const spindle__attention_params &p, const spindle__prepared &r, int row, int head) {
  return r.number * p.args.o.batch + (int64_t)(r.request.q_begin + row) * p.args.o.row + head * p.args.o.head;
}

/* A warp's rows by way of its own rows of the query tile, so that they leave in whole chunks. */
template <class T, int D, class Kernel>
SPINDLE__DEVICE void store_halves(Kernel &k, const float (&factor)[Kernel::M][2]) {
  const uint32_t tile = prim::shared_address(k.smem.q);
  SPINDLE__UNROLL
  for (int i = 0; i < Kernel::M * 2 * D / 8; ++i) {
    const int block = i % (D / 8), h = i / (D / 8) % 2, m = i / (D / 8) / 2;
    const float(&o)[4] = k.o[m][block / Kernel::C][block % Kernel::C];
    prim::st_shared(tile + Tile<D>::element(Kernel::row_of(m, h), 8 * block + 2 * (prim::lane() % 4)),
                    prim::pack<T>(o[2 * h] * factor[m][h], o[2 * h + 1] * factor[m][h]));
  }
  prim::sync_warp();
  const spindle__prepared &r = k.request();
  SPINDLE__NO_UNROLL
  for (int i = prim::lane(); i < 16 * Kernel::M * Tile<D>::CHUNKS; i += 32) {
    const int at = Kernel::first_row() + i / Tile<D>::CHUNKS, chunk = i % Tile<D>::CHUNKS, row = k.smem.work.row[at];
    const int bytes = row >= 0 ? chunk_bytes(k.p.shape.head_dim_v, chunk) : 0;
    if (!bytes) continue;
    uint16_t *to = (uint16_t *)k.p.args.o.data + output_row(k.p, r, row, k.smem.work.head[at]) + 8 * chunk;
    if (bytes == 16) prim::st_global((uint4 *)to, prim::ld_shared<uint4>(tile + Tile<D>::chunk(at, chunk)));
    SPINDLE__NO_UNROLL
    for (int x = 0; bytes < 16 && x < bytes / 2; ++x)
      prim::st_global(to + x, prim::ld_shared<uint16_t>(tile + Tile<D>::element(at, 8 * chunk + x)));
  }
}

/* rows[m][h]: `width` floats each, or NULL. */
template <int D, class Kernel>
SPINDLE__DEVICE void store_floats(Kernel &k, float *const (&rows)[Kernel::M][2], int width, const float (&factor)[Kernel::M][2]) {
  SPINDLE__UNROLL
  for (int i = 0; i < Kernel::M * 2 * D / 8; ++i) {
    const int block = i % (D / 8), h = i / (D / 8) % 2, m = i / (D / 8) / 2, column = 8 * block + 2 * (prim::lane() % 4);
    const float(&o)[4] = k.o[m][block / Kernel::C][block % Kernel::C];
    if (!rows[m][h] || column >= width) continue;
    const float2 two = make_float2(o[2 * h] * factor[m][h], o[2 * h + 1] * factor[m][h]);
    if (column + 1 < width)
      prim::st_global((float2 *)(rows[m][h] + column), two);
    else
      prim::st_global(rows[m][h] + column, two.x);
  }
}

/* The item's rows of O and LSE; of a split the partial results: O not divided by the sum, the maximum and the sum. */
template <class T, int D, class Kernel>
SPINDLE__DEVICE void store_rows(Kernel &k) {
  const spindle_attention_args &a = k.p.args;
  const spindle__prepared &r = k.request();
  const bool split = r.work.num_splits > 1;
  float factor[Kernel::M][2], *rows[Kernel::M][2];
  SPINDLE__UNROLL
  for (int i = 0; i < Kernel::M * 2; ++i) {
    const int m = i / 2, h = i % 2, at = Kernel::row_of(m, h), row = k.smem.work.row[at], head = k.smem.work.head[at];
    const float sum = sum_of_quad(k.sum[m][h]);
    const bool first = row >= 0 && prim::lane() % 4 == 0;
    if (split) {
      const int64_t partial =
          r.work.first_partial + ((int64_t)row * k.p.shape.num_q_heads + head) * r.work.num_splits + k.smem.work.item.split;
      factor[m][h] = 1.0f;
      rows[m][h] = row >= 0 ? k.p.partial_o + partial * k.p.o_stride : nullptr;
      if (first) prim::st_global((float2 *)k.p.partial_ml + partial, make_float2(k.maximum[m][h], sum));
    } else {
      const float sink = a.sink_logits && k.p.with_sinks && row >= 0 ? a.sink_logits[head] : -INFINITY;
      float lse;
      factor[m][h] = finish(k.maximum[m][h], sum, sink, lse);
      rows[m][h] = row >= 0 ? (float *)a.o.data + output_row(k.p, r, row, head) : nullptr;
      if (first && a.lse.data)
        a.lse.data[r.number * a.lse.batch + (int64_t)(r.request.q_begin + row) * a.lse.row + head * a.lse.head] = lse;
    }
  }
  if (split || k.p.shape.o_dtype == SPINDLE_F32)
    store_floats<D>(k, rows, split ? D : k.p.shape.head_dim_v, factor);
  else
    store_halves<T, D>(k, factor);
}

/* ---- Splits in turn ---- */

/* The sums of the splits that a block has walked so far lie in its part of scratch, a thread's elements Threads apart: O, then
 * maxima, then sums. */
template <class Kernel>
struct KeptSums {
  static constexpr int O = Kernel::M * Kernel::CHUNKS * Kernel::C * 4;
  float *data;

  SPINDLE__DEVICE explicit KeptSums(Kernel &k)
      : data(k.p.whole + (int64_t)prim::block_x() * (Kernel::Shape::ROWS * (k.p.o_stride + 8)) + prim::thread_index()) {}
  SPINDLE__DEVICE float get(int i) const { return prim::ld_global(data + i * Kernel::Shape::THREADS); }
  SPINDLE__DEVICE void put(int i, float x) const { prim::st_global(data + i * Kernel::Shape::THREADS, x); }
};

template <class Kernel>
SPINDLE__DEVICE void keep_sums(Kernel &k) {
  const KeptSums<Kernel> kept(k);
  SPINDLE__UNROLL
  for (int i = 0; i < KeptSums<Kernel>::O; ++i)
    kept.put(i, k.o[i / (4 * Kernel::C * Kernel::CHUNKS)][i / (4 * Kernel::C) % Kernel::CHUNKS][i / 4 % Kernel::C][i % 4]);
  SPINDLE__UNROLL
  for (int r = 0; r < 2 * Kernel::M; ++r) {
    kept.put(KeptSums<Kernel>::O + r, k.maximum[r / 2][r % 2]);
    kept.put(KeptSums<Kernel>::O + 2 * Kernel::M + r, sum_of_quad(k.sum[r / 2][r % 2]));
  }
}

template <class Kernel>
SPINDLE__DEVICE void add_splits_before(Kernel &k) {
  const KeptSums<Kernel> kept(k);
  SPINDLE__UNROLL
  for (int r = 0; r < 2 * Kernel::M; ++r) {
    const int m = r / 2, h = r % 2;
    float maximum = kept.get(KeptSums<Kernel>::O + r), sum = kept.get(KeptSums<Kernel>::O + 2 * Kernel::M + r);
    const MergeWeights w = merge(maximum, sum, k.maximum[m][h], sum_of_quad(k.sum[m][h]));
    k.maximum[m][h] = maximum;
    k.sum[m][h] = prim::lane() % 4 == 0 ? sum : 0.0f; /* a quad's four are added */
    SPINDLE__UNROLL
    for (int j = 0; j < Kernel::CHUNKS * Kernel::C; ++j) {
      float(&o)[4] = k.o[m][j / Kernel::C][j % Kernel::C];
      const int i = (m * Kernel::CHUNKS * Kernel::C + j) * 4 + 2 * h;
      o[2 * h] = merged(w, kept.get(i), o[2 * h]);
      o[2 * h + 1] = merged(w, kept.get(i + 1), o[2 * h + 1]);
    }
  }
}

}  // namespace spindle

#endif
