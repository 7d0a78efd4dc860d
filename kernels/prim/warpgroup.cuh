/* Registers, moved from warps that need few to warps that need many. sm_90a. PTX ISA: Miscellaneous Instructions. */
#ifndef SPINDLE_KERNELS_PRIM_WARPGROUP_CUH
#define SPINDLE_KERNELS_PRIM_WARPGROUP_CUH

namespace spindle::prim {

/* Lowers or raises the registers a thread of the calling warpgroup (4 warps from a multiple of 4) may use: a multiple of 8 in 24
 * to 256, at most or at least what it has. A block starts with 65536 / threads, rounded down to a multiple of 8, a thread, if its
 * kernel says __launch_bounds__(threads, 1); _inc waits until others have given up enough. All threads of the warpgroup call the
 * same, and meet at a barrier before the next. setmaxnreg. */
template <int Registers>
SPINDLE__DEVICE void setmaxnreg_dec() {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256, "setmaxnreg");
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
SPINDLE__DEVICE void setmaxnreg_inc() {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256, "setmaxnreg");
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

}  // namespace spindle::prim

#endif
