/* Tiles in shared memory: rows of D 16-bit elements in chunks of 16 bytes, swizzled so that 8 rows of one chunk (a matrix of
 * ldmatrix) and the chunks of one row both touch all banks once. */
#ifndef SPINDLE_KERNELS_TILE_CUH
#define SPINDLE_KERNELS_TILE_CUH

#include "prim/prim.cuh"

namespace spindle {

template <int D>
struct Tile {
  static_assert(D == 64 || D == 96 || D == 128 || D == 256, "the swizzle below is for these");
  static constexpr int ROW_BYTES = 2 * D, CHUNKS = D / 8;

  /* Byte offset of a chunk. A row of 96 elements starts half a line of 32 banks after the one before, so rows in twos share the
   * low bits; all others start at bank 0. */
  SPINDLE__DEVICE static uint32_t chunk(int row, int chunk) {
    const int low = D == 96 ? (row >> 1) & 3 : row & 7;
    return (uint32_t)(row * ROW_BYTES + ((chunk ^ low) << 4));
  }
  SPINDLE__DEVICE static uint32_t element(int row, int channel) { return chunk(row, channel >> 3) + (uint32_t)(channel & 7) * 2; }
};

/* How many of a chunk's bytes a row of `channels` 16-bit elements has. */
SPINDLE__DEVICE int chunk_bytes(int channels, int chunk) { return max(0, min(16, 2 * channels - 16 * chunk)); }

/* ---- Operands of mma.m16n8k16 from tiles ---- */

/* A: 16 rows x 16 channels. */
template <int D, int M>
SPINDLE__DEVICE void load_a(uint32_t (&a)[M][4], uint32_t tile, int row, int step) {
  const int lane = prim::lane();
  uint32_t at[M];
  SPINDLE__UNROLL
  for (int m = 0; m < M; ++m) at[m] = tile + Tile<D>::chunk(row + 16 * m + lane % 16, 2 * step + lane / 16);
  prim::ldmatrix_each(a, at);
}

/* B = K^T: N blocks of 8 keys x 16 channels. */
template <int D, int N>
SPINDLE__DEVICE void load_keys(uint32_t (&b)[N][2], uint32_t tile, int step) {
  const int lane = prim::lane();
  uint32_t at[N / 2], r[N / 2][4];
  SPINDLE__UNROLL
  for (int i = 0; i < N / 2; ++i) at[i] = tile + Tile<D>::chunk(16 * i + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2);
  prim::ldmatrix_each(r, at);
  SPINDLE__UNROLL
  for (int i = 0; i < N; ++i) {
    b[i][0] = r[i / 2][i % 2 * 2];
    b[i][1] = r[i / 2][i % 2 * 2 + 1];
  }
}

/* B = V: 16 keys from `key` on x N blocks of 8 channels from `channel` on. */
template <int D, int N>
SPINDLE__DEVICE void load_values(uint32_t (&b)[N][2], uint32_t tile, int key, int channel) {
  const int lane = prim::lane();
  uint32_t at[N / 2], r[N / 2][4];
  SPINDLE__UNROLL
  for (int i = 0; i < N / 2; ++i) at[i] = tile + Tile<D>::chunk(key + lane % 16, channel / 8 + 2 * i + lane / 16);
  prim::ldmatrix_trans_each(r, at);
  SPINDLE__UNROLL
  for (int i = 0; i < N; ++i) {
    b[i][0] = r[i / 2][i % 2 * 2];
    b[i][1] = r[i / 2][i % 2 * 2 + 1];
  }
}

}  // namespace spindle

#endif
