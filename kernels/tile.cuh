/* Tiles in shared memory: rows of D 16-bit elements in chunks of 16 bytes, swizzled so that 8 rows of one chunk (a matrix of
 * ldmatrix) and the chunks of one row both touch all banks once. */
#ifndef SPINDLE_KERNELS_TILE_CUH
#define SPINDLE_KERNELS_TILE_CUH

#include "prim/prim.cuh"

namespace spindle {

template <int D>
struct Tile {
  static_assert(D == 64 || D == 96 || D == 128 || D == 256, "the swizzle below is for these");
  static constexpr int DIM = D, ROW_BYTES = 2 * D, CHUNKS = D / 8;
  /* Chunks that are permuted among each other: a line of 32 banks. A row of 96 elements starts half a line after the one before,
   * so there it is half a line, alike in two rows. */
  static constexpr int SPAN = D == 96 ? 4 : 8;

  SPINDLE__DEVICE static int mask(int row) { return D == 96 ? row >> 1 & 3 : row & 7; }

  /* Byte offset of a chunk. */
  SPINDLE__DEVICE static uint32_t chunk(int row, int chunk) {
    return (uint32_t)(row * ROW_BYTES + chunk / SPAN * SPAN * 16 + ((chunk % SPAN ^ mask(row)) << 4));
  }
  /* Address of chunk 2 pair + half from that of chunk half in the same row: an exclusive or where it is used, so that a loop over
   * pairs keeps few addresses in registers. Tiles begin on multiples of 128 bytes. */
  SPINDLE__DEVICE static uint32_t pair(uint32_t first, int pair) {
    return (first ^ (uint32_t)(2 * pair % SPAN * 16)) + (uint32_t)(2 * pair / SPAN * SPAN * 16);
  }
  SPINDLE__DEVICE static uint32_t element(int row, int channel) { return chunk(row, channel >> 3) + (uint32_t)(channel & 7) * 2; }
};

/* How many of a chunk's bytes a row of `channels` 16-bit elements has. */
SPINDLE__DEVICE int chunk_bytes(int channels, int chunk) { return max(0, min(16, 2 * channels - 16 * chunk)); }

/* ---- Operands of mma.m16n8k16 from tiles. Layout: Tile, or Panels (panels.cuh) ---- */

/* A: M blocks of 16 rows x 16 channels from 16 step on. */
template <int D, int M>
SPINDLE__DEVICE void load_a(uint32_t (&a)[M][4], uint32_t tile, int row, int lane, int step) {
  const uint32_t first = Tile<D>::pair(tile + Tile<D>::chunk(row + lane % 16, lane / 16), step);
  uint32_t at[M];
  SPINDLE__UNROLL
  for (int m = 0; m < M; ++m) at[m] = first + 16 * m * Tile<D>::ROW_BYTES;
  prim::ldmatrix_each(a, at);
}

template <int N>
SPINDLE__DEVICE void split_columns(const uint32_t (&r)[N / 2][4], uint32_t (&b)[N][2]) {
  SPINDLE__UNROLL
  for (int i = 0; i < N; ++i) {
    b[i][0] = r[i / 2][i % 2 * 2];
    b[i][1] = r[i / 2][i % 2 * 2 + 1];
  }
}

/* B = K^T: N blocks of 8 keys x 16 channels from 16 step on. */
template <class Layout, int N>
SPINDLE__DEVICE void load_keys(uint32_t (&b)[N][2], uint32_t tile, int lane, int step) {
  const uint32_t first = Layout::pair(tile + Layout::chunk(lane / 16 * 8 + lane % 8, lane / 8 % 2), step);
  uint32_t at[N / 2], r[N / 2][4];
  SPINDLE__UNROLL
  for (int i = 0; i < N / 2; ++i) at[i] = first + 16 * i * Layout::ROW_BYTES;
  prim::ldmatrix_each(r, at);
  split_columns<N>(r, b);
}

/* B = V: 16 keys from `key` on x N blocks of 8 channels from block `block` on. */
template <class Layout, int N>
SPINDLE__DEVICE void load_values(uint32_t (&b)[N][2], uint32_t tile, int lane, int key, int block) {
  const uint32_t first = tile + Layout::chunk(lane % 16, lane / 16);
  uint32_t at[N / 2], r[N / 2][4];
  SPINDLE__UNROLL
  for (int i = 0; i < N / 2; ++i) at[i] = Layout::pair(first, block / 2 + i) + key * Layout::ROW_BYTES;
  prim::ldmatrix_trans_each(r, at);
  split_columns<N>(r, b);
}

}  // namespace spindle

#endif
