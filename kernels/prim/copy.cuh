/* Asynchronous copies from global to shared memory, in the background of the thread that issues them.
 * PTX ISA: Data Movement and Conversion, asynchronous copy (non-bulk). */
#ifndef SPINDLE_KERNELS_PRIM_COPY_CUH
#define SPINDLE_KERNELS_PRIM_COPY_CUH

namespace spindle::prim {

/* Copies from_bytes (0 to Bytes) and fills the rest of Bytes with zeros. Both addresses are multiples of Bytes; with from_bytes =
 * 0 nothing is read, yet `from` points into an allocation. The data are there for the calling thread after its cp_async_wait, for
 * others after a barrier on top. 4 and 8 bytes go through L1 (.ca), 16 past it (.cg). cp.async. */
template <int Bytes>
SPINDLE__DEVICE void cp_async(uint32_t to, const void *from, int from_bytes = Bytes) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "sizes of cp.async");
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(from_bytes) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(Bytes), "r"(from_bytes) : "memory");
  }
}

/* Closes a group of all copies of this thread that are in none yet. The group may be empty.
 * cp.async.commit_group. */
SPINDLE__DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/* Waits until all but the newest Pending groups of this thread have landed. Copies in no group are not waited for.
 * cp.async.wait_group. */
template <int Pending>
SPINDLE__DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

/* Waits for every copy of this thread, in a group or not. cp.async.wait_all. */
SPINDLE__DEVICE void cp_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

}  // namespace spindle::prim

#endif
