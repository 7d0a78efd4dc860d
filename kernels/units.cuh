/* Rows of global memory into tiles, 16 bytes at a time: which of them a thread copies, and the copying.
 *
 * A thread has one unit of 16 bytes of every STEP'th row, so that its place in a row is worked out once; where its rows are less
 * than 8 apart, 8 rows' copies are one piece of code, in which the swizzle of the first is that of the others but for a constant.
 * At D = 128 a copy is 17 instructions a lane where a warp copies on its own, 24 where four do. (It would be 44 for units taken
 * in turn, each with its row, its place and its size: for K and V of 64 keys 2800 issue slots, where both products are 200.) */
#ifndef SPINDLE_KERNELS_UNITS_CUH
#define SPINDLE_KERNELS_UNITS_CUH

#include "prim/prim.cuh"

namespace spindle {

constexpr int power_of_two_in(int x) { return x < 2 ? 1 : 2 * power_of_two_in(x / 2); }

template <int Units, int Threads>
struct UnitsOf {
  static_assert(Units <= Threads, "a row's at least");
  static constexpr int STEP = power_of_two_in(Threads / Units); /* D = 96: a quarter of the threads have none */
  static constexpr int GROUP = STEP < 8 ? 8 : STEP;
  SPINDLE__DEVICE static int unit(int thread) { return (int)((uint32_t)thread % Units); }
  /* No row: `none`. */
  SPINDLE__DEVICE static uint32_t first_row(int thread, uint32_t none) {
    const uint32_t row = (uint32_t)thread / Units;
    return row < STEP ? row : none;
  }
};

/* Starts copying rows of row_bytes bytes; units past them, and rows that are not valid, become 0. place(row, unit): where. */
template <int Units, int Keys, int Threads, class Place>
SPINDLE__DEVICE void copy_units(const unsigned char *const (&rows)[Keys], const uint32_t (&valid)[(Keys + 63) / 64 * 2],
                                int row_bytes, int thread, const Place &place) {
  using Mine = UnitsOf<Units, Threads>;
  const int unit = Mine::unit(thread), most = max(0, min(16, row_bytes - 16 * unit)), offset = most ? 16 * unit : 0;
  uint32_t row = Mine::first_row(thread, Keys);
  if (most % 16) { /* the last of a row, in part: sizes that are not known to be 0 or 16 cost more */
    SPINDLE__NO_UNROLL
    for (; row < Keys; row += Mine::STEP)
      prim::cp_async<16>(place((int)row, unit), rows[row] + offset, valid[row / 32] >> row % 32 & 1 ? most : 0);
    return;
  }
  SPINDLE__NO_UNROLL
  for (; row < Keys; row += Mine::GROUP) {
    const uint32_t seen = most ? valid[row / 32] >> row % 32 : 0;
    SPINDLE__UNROLL
    for (int k = 0; k < Mine::GROUP; k += Mine::STEP)
      prim::cp_async<16>(place((int)row + k, unit), rows[row + k] + offset, seen >> k & 1 ? 16 : 0);
  }
}

}  // namespace spindle

#endif
