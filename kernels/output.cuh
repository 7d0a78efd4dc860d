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

/* The first of a fragment's two columns. */
template <class Kernel>
SPINDLE__DEVICE int column_of(int chunk, int n) {
  return 8 * (Kernel::C * chunk + n) + 2 * (prim::lane() % 4);
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
  for (int i = 0; i < Kernel::M * 2 * Kernel::CHUNKS * Kernel::C; ++i) {
    const int n = i % Kernel::C, c = i / Kernel::C % Kernel::CHUNKS, h = i / (Kernel::C * Kernel::CHUNKS) % 2;
    const int m = i / (Kernel::C * Kernel::CHUNKS * 2);
    prim::st_shared(tile + Tile<D>::element(Kernel::row_of(m, h), column_of<Kernel>(c, n)),
                    prim::pack<T>(k.o[m][c][n][2 * h] * factor[m][h], k.o[m][c][n][2 * h + 1] * factor[m][h]));
  }
  prim::sync_warp();
  const spindle__prepared &r = k.request();
  for (int i = prim::lane(); i < 16 * Kernel::M * Tile<D>::CHUNKS; i += 32) {
    const int at = Kernel::first_row() + i / Tile<D>::CHUNKS, chunk = i % Tile<D>::CHUNKS, row = k.smem.work.row[at];
    const int bytes = row >= 0 ? chunk_bytes(k.p.shape.head_dim_v, chunk) : 0;
    if (!bytes) continue;
    uint16_t *to = (uint16_t *)k.p.args.o.data + output_row(k.p, r, row, k.smem.work.head[at]) + 8 * chunk;
    if (bytes == 16) prim::st_global((uint4 *)to, prim::ld_shared<uint4>(tile + Tile<D>::chunk(at, chunk)));
    for (int x = 0; bytes < 16 && x < bytes / 2; ++x)
      prim::st_global(to + x, prim::ld_shared<uint16_t>(tile + Tile<D>::element(at, 8 * chunk + x)));
  }
}

/* Two columns of a row of `width` floats. */
SPINDLE__DEVICE void store_two(float *row, int column, int width, float first, float second) {
  if (column + 1 < width)
    prim::st_global((float2 *)(row + column), make_float2(first, second));
  else if (column < width)
    prim::st_global(row + column, first);
}

template <class Kernel>
SPINDLE__DEVICE void store_floats(Kernel &k, const float (&factor)[Kernel::M][2]) {
  SPINDLE__UNROLL
  for (int i = 0; i < Kernel::M * 2; ++i) {
    const int m = i / 2, h = i % 2, at = Kernel::row_of(m, h), row = k.smem.work.row[at];
    if (row < 0) continue;
    float *to = (float *)k.p.args.o.data + output_row(k.p, k.request(), row, k.smem.work.head[at]);
    SPINDLE__UNROLL
    for (int j = 0; j < Kernel::CHUNKS * Kernel::C; ++j) {
      const float(&o)[4] = k.o[m][j / Kernel::C][j % Kernel::C];
      store_two(to, 8 * j + 2 * (prim::lane() % 4), k.p.shape.head_dim_v, o[2 * h] * factor[m][h], o[2 * h + 1] * factor[m][h]);
    }
  }
}

/* The item's rows of O and LSE. */
template <int D, class Kernel>
SPINDLE__DEVICE void store_rows(Kernel &k) {
  const spindle_attention_args &a = k.p.args;
  const spindle__prepared &r = k.request();
  float factor[Kernel::M][2];
  SPINDLE__UNROLL
  for (int i = 0; i < Kernel::M * 2; ++i) {
    const int m = i / 2, h = i % 2, at = Kernel::row_of(m, h), row = k.smem.work.row[at], head = k.smem.work.head[at];
    const float sum = sum_of_quad(k.sum[m][h]);
    const float sink = a.sink_logits && k.p.with_sinks && row >= 0 ? a.sink_logits[head] * (float)LOG2_E : -INFINITY;
    float lse;
    factor[m][h] = finish(k.maximum[m][h], sum, sink, lse);
    if (a.lse.data && row >= 0 && prim::lane() % 4 == 0)
      a.lse.data[r.number * a.lse.batch + (int64_t)(r.request.q_begin + row) * a.lse.row + head * a.lse.head] = lse;
  }
  if (k.p.shape.o_dtype == SPINDLE_F32)
    store_floats(k, factor);
  else if (k.p.shape.o_dtype == SPINDLE_BF16)
    store_halves<bf16, D>(k, factor);
  else
    store_halves<f16, D>(k, factor);
}

/* ---- Splits ---- */

/* The item's partial results: O not divided by the sum, the maximum and the sum. */
template <class Kernel>
SPINDLE__DEVICE void store_partial(Kernel &k) {
  const spindle__work &w = k.request().work;
  SPINDLE__UNROLL
  for (int i = 0; i < Kernel::M * 2; ++i) {
    const int m = i / 2, h = i % 2, at = Kernel::row_of(m, h), row = k.smem.work.row[at];
    const float sum = sum_of_quad(k.sum[m][h]);
    if (row < 0) continue;
    const int64_t partial =
        w.first_partial + ((int64_t)row * k.p.shape.num_q_heads + k.smem.work.head[at]) * w.num_splits + k.smem.work.item.split;
    if (prim::lane() % 4 == 0) prim::st_global((float2 *)k.p.partial_ml + partial, make_float2(k.maximum[m][h], sum));
    SPINDLE__UNROLL
    for (int j = 0; j < Kernel::CHUNKS * Kernel::C; ++j) {
      const float(&o)[4] = k.o[m][j / Kernel::C][j % Kernel::C];
      store_two(k.p.partial_o + partial * k.p.o_stride, 8 * j + 2 * (prim::lane() % 4), k.p.o_stride, o[2 * h], o[2 * h + 1]);
    }
  }
}

/* Splits that one block walks in turn: their sums so far lie in the block's part of scratch, a thread's elements Threads apart:
 * O, then maxima, then sums. */
template <class Kernel>
struct WholeSums {
  static constexpr int O = Kernel::M * Kernel::CHUNKS * Kernel::C * 4;
  float *data;

  SPINDLE__DEVICE explicit WholeSums(Kernel &k)
      : data(k.p.whole + (int64_t)prim::block_x() * (Kernel::Shape::ROWS * (k.p.o_stride + 8)) + prim::thread_index()) {}
  SPINDLE__DEVICE float &at(int i) const { return data[i * Kernel::Shape::THREADS]; }
  SPINDLE__DEVICE float &o(int i) const { return at(i); }
  SPINDLE__DEVICE float &maximum(int i) const { return at(O + i); }
  SPINDLE__DEVICE float &sum(int i) const { return at(O + 2 * Kernel::M + i); }
};

template <class Kernel>
SPINDLE__DEVICE void clear_whole(Kernel &k) {
  const WholeSums<Kernel> whole(k);
  for (int i = 0; i < WholeSums<Kernel>::O; ++i) whole.o(i) = 0.0f;
  for (int i = 0; i < 2 * Kernel::M; ++i) {
    whole.maximum(i) = -INFINITY;
    whole.sum(i) = 0.0f;
  }
}

/* Element i of a thread's O belongs to row half (i / (O / M), i / 2 % 2). */
template <class Kernel>
SPINDLE__DEVICE void add_to_whole(Kernel &k) {
  const WholeSums<Kernel> whole(k);
  SPINDLE__UNROLL
  for (int r = 0; r < 2 * Kernel::M; ++r) {
    const int m = r / 2, h = r % 2;
    const MergeWeights w = merge(whole.maximum(r), whole.sum(r), k.maximum[m][h], sum_of_quad(k.sum[m][h]));
    SPINDLE__UNROLL
    for (int j = 0; j < Kernel::CHUNKS * Kernel::C; ++j) {
      const float(&o)[4] = k.o[m][j / Kernel::C][j % Kernel::C];
      const int i = (m * Kernel::CHUNKS * Kernel::C + j) * 4 + 2 * h;
      whole.o(i) = merged(w, whole.o(i), o[2 * h]);
      whole.o(i + 1) = merged(w, whole.o(i + 1), o[2 * h + 1]);
    }
  }
}

/* The whole becomes the block's sums. */
template <class Kernel>
SPINDLE__DEVICE void take_whole(Kernel &k) {
  const WholeSums<Kernel> whole(k);
  SPINDLE__UNROLL
  for (int i = 0; i < WholeSums<Kernel>::O; ++i)
    k.o[i / (4 * Kernel::C * Kernel::CHUNKS)][i / (4 * Kernel::C) % Kernel::CHUNKS][i / 4 % Kernel::C][i % 4] = whole.o(i);
  SPINDLE__UNROLL
  for (int r = 0; r < 2 * Kernel::M; ++r) {
    k.maximum[r / 2][r % 2] = whole.maximum(r);
    k.sum[r / 2][r % 2] = prim::lane() % 4 == 0 ? whole.sum(r) : 0.0f; /* a quad's four are added */
  }
}

}  // namespace spindle

#endif
