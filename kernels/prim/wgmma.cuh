/* Products of a warpgroup: D += A B for A 64xK and B KxN, N a multiple of 8 up to 256, D in float. T is bf16 or f16 with K = 16,
 * or e4m3 with K = 32. Four warps, of which the first has a number divisible by 4, execute each call together. sm_90a.
 *
 * Fragments of A and D, with g = lane / 4, t = lane % 4, and rows counted from 16 (warp % 4), are those of matrix.cuh:
 *   a[0..3]: rows g, g+8, g, g+8 at columns k = 2t, 2t, 2t+8, 2t+8 (and k+1); of e4m3 k = 4t, 4t, 4t+16, 4t+16 (to k+3)
 *   d[j][0..3]: rows g, g, g+8, g+8 at columns 8j + 2t, 2t+1, 2t, 2t+1
 *
 * wgmma runs in the background, and reads shared memory by the async proxy (tma.cuh). A group is
 *   wgmma_fence(d, a): orders what the threads did to d and a before
 *   wgmma(d, a, b, ...), as often as needed
 *   wgmma_commit()
 * and until wgmma_wait<Pending>(d) has covered it nobody touches d, a, or the operands in shared memory. The compiler does not
 * know that. It keeps the arrays that a fence or wait names from being touched on the wrong side: name in a fence what its group
 * uses, and in a wait what may be touched after it.
 *
 * PTX ISA: Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions. */
#ifndef SPINDLE_KERNELS_PRIM_WGMMA_CUH
#define SPINDLE_KERNELS_PRIM_WGMMA_CUH

#include "wgmma_shapes.cuh"

namespace spindle::prim {

/* Which elements of B lie next to each other in shared memory: those of a column (K_MAJOR: keys as B of Q K^T) or those of a row
 * (MN_MAJOR, not for e4m3: values as B of P V). A in shared memory is K-major. */
enum Major { K_MAJOR = 0, MN_MAJOR = 1 };

/* An operand in shared memory, by the address of its first byte. With W = swizzle_span(S) bytes,
 * - K-major: row r of A or column r of B begins at r / 8 * Stride + r % 8 * W, and its K elements follow (W = 16: 16 bytes of
 * them, the others Leading bytes on).
 * - MN-major: row k of B begins at k / 8 * Stride + k % 8 * W with W / 2 columns, the next W / 2 lie Leading bytes on. W = 16:
 * Stride and Leading change places.
 *
 * Swizzled: eight rows of W make a pattern, which lies at a multiple of 8 W; an operand begins in its first row. Leading is 16
 * where it has no use. PTX ISA: Matrix Descriptor Format, and Strides. */
template <Swizzle S, uint32_t Leading, uint32_t Stride>
SPINDLE__DEVICE uint64_t matrix_descriptor(uint32_t address) {
  static_assert(Leading % 16 == 0 && Leading < 1u << 18 && Stride % 16 == 0 && Stride < 1u << 18, "14 bits in units of 16");
  return (address & 0x3ffff) >> 4 | (uint64_t)(Leading >> 4) << 16 | (uint64_t)(Stride >> 4) << 32 | (uint64_t)S << 62;
}

/* The operand that begins `bytes` further on, as the next K elements do, 32 bytes on in a swizzled row. */
SPINDLE__DEVICE uint64_t advance_descriptor(uint64_t descriptor, uint32_t bytes) { return descriptor + (bytes >> 4); }

/* No use of the array moves across this point. No instruction. */
template <int M, int N>
SPINDLE__DEVICE void pin(float (&d)[M][N]) {
  SPINDLE__UNROLL
  for (int i = 0; i < M * N; ++i) asm volatile("" : "+f"(d[i / N][i % N]));
}
template <int M, int N>
SPINDLE__DEVICE void pin(uint32_t (&a)[M][N]) {
  SPINDLE__UNROLL
  for (int i = 0; i < M * N; ++i) asm volatile("" : "+r"(a[i / N][i % N]));
}

/* Begins a group. wgmma.fence. */
template <class... Arrays>
SPINDLE__DEVICE void wgmma_fence(Arrays &...arrays) {
  (pin(arrays), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/* Ends it. wgmma.commit_group. */
SPINDLE__DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/* Waits until all but the newest Pending groups of this warp are done. At most three arrays. wgmma.wait_group. */
template <int Pending, class... Arrays>
SPINDLE__DEVICE void wgmma_wait(Arrays &...arrays) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
  (pin(arrays), ...);
}

/* D = A B, plus D if `accumulate`, with N = 8 Blocks columns; A by descriptor or in registers. wgmma.mma_async. */
template <class T, Major B = K_MAJOR, int Blocks>
SPINDLE__DEVICE void wgmma(float (&d)[Blocks][4], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(!std::is_same_v<T, e4m3> || B == K_MAJOR, "e4m3 is K-major");
  wgmma_issue<B>(T{}, d, a, b, accumulate);
}
template <class T, Major B = K_MAJOR, int Blocks>
SPINDLE__DEVICE void wgmma(float (&d)[Blocks][4], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  static_assert(!std::is_same_v<T, e4m3> || B == K_MAJOR, "e4m3 is K-major");
  wgmma_issue<B>(T{}, d, a, b, accumulate);
}

}  // namespace spindle::prim

#endif
