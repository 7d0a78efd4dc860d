/* Matrix fragments. All 32 lanes execute each call together. Below g = lane / 4, t = lane % 4, and a register holds two 16-bit
 * elements, the first in its low half. Fragments are plain arrays of constant size.
 * PTX ISA: Warp-Level Matrix Instructions; layouts under "Matrix fragments for mma.m16n8k16 with floating point type". */
#ifndef SPINDLE_KERNELS_PRIM_MATRIX_CUH
#define SPINDLE_KERNELS_PRIM_MATRIX_CUH

namespace spindle::prim {

/* Loads four 8x8 matrices of 16-bit elements from shared memory: lane 8i+r gives the address of row r of matrix i (16 bytes,
 * 16-byte aligned). r[i] receives elements (g, 2t) and (g, 2t+1) of matrix i, or with _trans
 * elements (2t, g) and (2t+1, g). Free of bank conflicts iff the 8 rows of a matrix differ in address bits 4 to 6. ldmatrix. */
#define SPINDLE__LDMATRIX(suffix, name)                                                       \
  SPINDLE__DEVICE void name(uint32_t(&r)[4], uint32_t row) {                                  \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" suffix ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                             \
                 : "r"(row)                                                                   \
                 : "memory");                                                                 \
  }
SPINDLE__LDMATRIX("", ldmatrix)
SPINDLE__LDMATRIX(".trans", ldmatrix_trans)
#undef SPINDLE__LDMATRIX

/* D += A B for A 16x16, B 16x8, D 16x8 in float. T is bf16 or f16.
 *   a[0..3]: rows g, g+8, g, g+8 at columns k = 2t, 2t, 2t+8, 2t+8 (and k+1)
 *   b[0..1]: rows k = 2t, 2t+8 (and k+1) of column g
 *   d[0..3]: rows g, g, g+8, g+8 at columns 2t, 2t+1, 2t, 2t+1
 * The order in which products are added, and the rounding inside, are the hardware's. mma.m16n8k16. */
template <class T>
SPINDLE__DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

#define SPINDLE__MMA(T, types)                                                              \
  template <>                                                                               \
  SPINDLE__DEVICE void mma<T>(float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) { \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." types                             \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "                      \
                 "{%0, %1, %2, %3};"                                                        \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                           \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));       \
  }
SPINDLE__MMA(bf16, "bf16.bf16")
SPINDLE__MMA(f16, "f16.f16")
#undef SPINDLE__MMA

/* The same over N operands: N instructions here, one rendezvous of the warp in the emulator, which runs them several times
 * faster. */
template <int N>
SPINDLE__DEVICE void ldmatrix_each(uint32_t (&r)[N][4], const uint32_t (&row)[N]) {
  SPINDLE__UNROLL
  for (int i = 0; i < N; ++i) ldmatrix(r[i], row[i]);
}
template <int N>
SPINDLE__DEVICE void ldmatrix_trans_each(uint32_t (&r)[N][4], const uint32_t (&row)[N]) {
  SPINDLE__UNROLL
  for (int i = 0; i < N; ++i) ldmatrix_trans(r[i], row[i]);
}
/* One A against N column blocks: d[i] += A b[i]. */
template <class T, int N>
SPINDLE__DEVICE void mma_each(float (&d)[N][4], const uint32_t (&a)[4], const uint32_t (&b)[N][2]) {
  SPINDLE__UNROLL
  for (int i = 0; i < N; ++i) mma<T>(d[i], a, b[i]);
}

}  // namespace spindle::prim

#endif
