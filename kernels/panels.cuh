/* Tiles as TMA lands them and wgmma reads them: panels of 128 bytes of each row (64 where D = 96 leaves no whole number),
 * swizzled so that eight rows of a chunk lie in different banks. Decode has its keys and values so on every device. */
#ifndef SPINDLE_KERNELS_PANELS_CUH
#define SPINDLE_KERNELS_PANELS_CUH

#include "prim/prim.cuh"

namespace spindle {

/* Rows of D 16-bit elements. A tile begins on a multiple of 1024 bytes. */
template <int D, int Rows>
struct Panels {
  static constexpr int DIM = D, ROWS = Rows, CHUNKS = D / 8, BYTES = Rows * 2 * D;
  static constexpr int WIDTH = D % 64 ? 32 : 64; /* channels of a panel */
  static constexpr int PANELS = D / WIDTH, ROW_BYTES = 2 * WIDTH, PANEL_BYTES = Rows * ROW_BYTES;
  static constexpr prim::Swizzle SWIZZLE = WIDTH == 64 ? prim::SWIZZLE_128B : prim::SWIZZLE_64B;
  static_assert(D % WIDTH == 0 && Rows % 8 == 0, "whole panels of whole patterns");

  /* Byte offset of a chunk of 8 channels. */
  SPINDLE__DEVICE static uint32_t chunk(int row, int chunk) {
    constexpr int PER_PANEL = WIDTH / 8;
    return prim::swizzled((uint32_t)(chunk / PER_PANEL * PANEL_BYTES + row * 2 * WIDTH + chunk % PER_PANEL * 16), SWIZZLE);
  }
  /* As Tile has it. */
  SPINDLE__DEVICE static uint32_t pair(uint32_t first, int pair) {
    constexpr int PER_PANEL = WIDTH / 8;
    return (first ^ (uint32_t)(2 * pair % PER_PANEL * 16)) + (uint32_t)(2 * pair / PER_PANEL * PANEL_BYTES);
  }
  SPINDLE__DEVICE static uint32_t element(int row, int channel) { return chunk(row, channel >> 3) + (uint32_t)(channel & 7) * 2; }

  /* The tile's rows from `row` on as A, or as B^T: 16 channels from 16 step on. */
  SPINDLE__DEVICE static uint64_t along_channels(uint32_t tile, int row, int step) {
    constexpr int PER_PANEL = WIDTH / 16;
    const uint64_t first = prim::matrix_descriptor<SWIZZLE, 16, 16 * WIDTH>(tile + (uint32_t)(row * 2 * WIDTH));
    return prim::advance_descriptor(first, (uint32_t)(step / PER_PANEL * PANEL_BYTES + step % PER_PANEL * 32));
  }
  /* Its rows from 16 step on as B: all channels. */
  SPINDLE__DEVICE static uint64_t along_rows(uint32_t tile, int step) {
    const uint64_t first = prim::matrix_descriptor<SWIZZLE, PANEL_BYTES, 16 * WIDTH>(tile);
    return prim::advance_descriptor(first, (uint32_t)(step * 16 * 2 * WIDTH));
  }
};

/* A of a warp's 16 rows from `row` on, in registers: 16 channels a step. */
template <class Layout, int Steps>
SPINDLE__DEVICE void load_rows(uint32_t (&a)[Steps][4], uint32_t tile, int row) {
  uint32_t at[Steps];
  SPINDLE__UNROLL
  for (int step = 0; step < Steps; ++step) at[step] = tile + Layout::chunk(row + prim::lane() % 16, 2 * step + prim::lane() / 16);
  prim::ldmatrix_each(a, at);
}

}  // namespace spindle

#endif
