/* Keys and values that are stored in e4m3, in tiles of 16-bit elements: copied as they are, expanded to T where they have landed.
 * Sixteen channels are 16 bytes, a unit, and become two chunks of the tile, 2c and 2c + 1. Two ways:
 *
 * Block by block (prefill_sm80.cuh). The two chunks share an aligned block of 32 bytes under every layout. The bytes land in one
 * half of that block, so no two threads touch the same block: each expands those that it has copied itself, once it has waited
 * for its own copies, and the barrier that makes a tile everybody's comes after. There is none in between. Which half alternates
 * with the lines of 32 banks: eight lanes, whose blocks are two lines, touch all banks once.
 *
 * Panel by panel (decode.cuh, sm90_producer.cuh). Rows land behind one another in the upper half of their panel, where TMA can
 * bring them too, and a team of threads expands them upwards from the first, a batch at a time: what it writes, twice what it
 * reads, reaches what is still to be read only with a panel's last batch, so all read first, and then write.
 *
 * e4m3 is exact in f16 and in bf16, so products see the numbers that are stored; their scales join the scores' scale (work.cuh)
 * and the rows of O (finish_row). NaN stays NaN. K becomes Q's type. V becomes f16 whatever Q is, and so do the weights: that is
 * one conversion of two numbers where bf16 takes four, and weights are the more accurate for it.
 *
 * Cost of a unit block by block, counted in sm_90a's code: a load and two stores of 16 bytes, 8 conversions to f16, for bf16 16
 * to float and 8 back, and 20 around them: 31 instructions, or 55. A tile of 64 rows at D = 128 is 512 units, so 500 or 880
 * issue slots, 125 or 220 clk of an SM's four schedulers, for 8 KB that take 440 clk to arrive at what an H200 can copy (18.6
 * bytes a clk and SM); and 24 KB of shared memory traffic, 190 clk. Bit by bit to bf16 (move, multiply by 2^120) would be 11
 * instructions for four numbers where these are 9, on a pipe that is half as wide, and 480 for NaN. Before sm_89 conversions are
 * bit by bit: two to three times as many instructions. Panel by panel a unit is 21 instructions, or 47: addresses are constants
 * apart. */
#ifndef SPINDLE_KERNELS_E4M3_CUH
#define SPINDLE_KERNELS_E4M3_CUH

#include <type_traits>

#include "panels.cuh"
#include "rows.cuh"
#include "units.cuh"

namespace spindle {

/* What V is multiplied in, and so what weights are rounded to: T, or for V stored in e4m3 f16. */
template <class T, class E>
using ValueType = std::conditional_t<sizeof(E) == 1, f16, T>;

/* Two e4m3 as two T, exactly. To bf16 by way of f16 and float. */
template <class T>
SPINDLE__DEVICE uint32_t widen2(uint32_t two);
template <>
SPINDLE__DEVICE uint32_t widen2<f16>(uint32_t two) {
  return prim::e4m3x2_to_f16x2((uint16_t)two);
}
template <>
SPINDLE__DEVICE uint32_t widen2<bf16>(uint32_t two) {
  const float2 x = prim::unpack<f16>(prim::e4m3x2_to_f16x2((uint16_t)two));
  return prim::pack<bf16>(x.x, x.y);
}

/* Eight. */
template <class T>
SPINDLE__DEVICE uint4 widen8(uint32_t low, uint32_t high) {
  return make_uint4(widen2<T>(low), widen2<T>(low >> 16), widen2<T>(high), widen2<T>(high >> 16));
}

/* ---- Rows in global memory, as rows.cuh has them: for reading, without the scale ---- */

template <>
struct GlobalRow<e4m3> {
  using Four = uint32_t;
  const uint8_t *data;
  SPINDLE__DEVICE static GlobalRow of(const void *tensor, int64_t element) { return {(const uint8_t *)tensor + element}; }
  SPINDLE__DEVICE Four load4(int channel) const { return prim::ld_global((const Four *)(data + channel)); }
  SPINDLE__DEVICE static void unpack(Four bits, float (&x)[4]) {
    unpack4<f16>(make_uint2(widen2<f16>(bits), widen2<f16>(bits >> 16)), x);
  }
  SPINDLE__DEVICE void get4(int channel, float (&x)[4]) const { unpack(load4(channel), x); }
  SPINDLE__DEVICE float get(int channel) const { return prim::unpack<f16>(widen2<f16>(data[channel])).x; }
};

/* ---- Block by block ---- */

/* Where the bytes of a block land, from the address of its first chunk. Tiles begin on multiples of 128 bytes. */
SPINDLE__DEVICE uint32_t landing(uint32_t first) { return (first & ~16u) | (first >> 3 & 16u); }

/* Starts copying rows of e4m3 into a tile of 16-bit elements, as copy_rows does. */
template <class Layout, int Keys, int Threads>
SPINDLE__DEVICE void copy_e4m3(uint32_t tile, const unsigned char *const (&rows)[Keys],
                               const uint32_t (&valid)[(Keys + 63) / 64 * 2], int channels, int thread) {
  const auto place = [tile](int row, int block) { return landing(tile + Layout::chunk(row, 2 * block)); };
  copy_units<Layout::CHUNKS / 2, Keys, Threads>(rows, valid, channels, thread, place);
}

/* The blocks that this thread has copied become T. After its wait, before the barrier. */
template <class T, class Layout, int Keys, int Threads>
SPINDLE__DEVICE void expand_e4m3(uint32_t tile, int thread) {
  using Mine = UnitsOf<Layout::CHUNKS / 2, Threads>;
  SPINDLE__NO_UNROLL
  for (uint32_t row = Mine::first_row(thread, Keys); row < Keys; row += Mine::STEP) {
    const uint32_t first = tile + Layout::chunk((int)row, 2 * Mine::unit(thread)), half = landing(first);
    const uint4 x = prim::ld_shared<uint4>(half);
    const bool lower = half == first; /* the half has the lower channels' place */
    prim::st_shared(half, widen8<T>(lower ? x.x : x.z, lower ? x.y : x.w));
    prim::st_shared(half ^ 16u, widen8<T>(lower ? x.z : x.x, lower ? x.w : x.y));
  }
}

/* ---- Panel by panel ---- */

/* Where the bytes of row 0 of panel 0 land. */
template <class Panels>
SPINDLE__DEVICE uint32_t landing_of(uint32_t tile) {
  return tile + Panels::PANEL_BYTES / 2;
}

/* Starts copying rows of e4m3 into a tile, as copy_rows does. */
template <class Panels, int Keys, int Threads>
SPINDLE__DEVICE void land_rows(uint32_t tile, const unsigned char *const (&rows)[Keys],
                               const uint32_t (&valid)[(Keys + 63) / 64 * 2], int channels, int thread) {
  const auto place = [tile](int row, int unit) {
    constexpr int UNITS = Panels::WIDTH / 16;
    return landing_of<Panels>(tile) + (uint32_t)(unit / UNITS * Panels::PANEL_BYTES + row * Panels::WIDTH + unit % UNITS * 16);
  };
  copy_units<Panels::DIM / 16, Keys, Threads>(rows, valid, channels, thread, place);
}

/* A tile becomes T, by a team of Threads. Between two of its barriers. Batch: units that a thread reads before the team writes.
 */
template <class T, class Panels, int Threads, int Batch, class Team>
SPINDLE__DEVICE void expand_landed(uint32_t tile, Team team) {
  constexpr int UNITS = Panels::WIDTH / 16, ROWS = Threads / UNITS, BATCHES = Panels::ROWS / (Batch * ROWS); /* of a panel */
  static_assert(ROWS % 8 == 0 && Panels::ROWS % (Batch * ROWS) == 0, "whole swizzle patterns, whole batches");
  const uint32_t thread = (uint32_t)team.thread(), from = landing_of<Panels>(tile) + thread * 16;
  const uint32_t low = tile + Panels::chunk((int)thread / UNITS, (int)thread % UNITS * 2); /* low ^ 16: the chunk after */
  SPINDLE__NO_UNROLL
  for (int i = 0; i < Panels::PANELS * BATCHES; ++i) {
    const uint32_t panel = (uint32_t)(i / BATCHES * Panels::PANEL_BYTES), first = (uint32_t)(i % BATCHES * Batch);
    uint4 x[Batch];
    SPINDLE__UNROLL
    for (uint32_t k = 0; k < Batch; ++k) x[k] = prim::ld_shared<uint4>(from + panel + (first + k) * Threads * 16);
    team.sync();
    SPINDLE__UNROLL
    for (uint32_t k = 0; k < Batch; ++k) {
      const uint32_t to = low + panel + (first + k) * Threads * 32;
      prim::st_shared(to, widen8<T>(x[k].x, x[k].y));
      prim::st_shared(to ^ 16u, widen8<T>(x[k].z, x[k].w));
    }
  }
}

}  // namespace spindle

#endif
