/* Conversions between float and the storage types, two elements a register (the first in the low half). To nearest even.
 * PTX ISA: cvt under Data Movement and Conversion. */
#ifndef SPINDLE_KERNELS_PRIM_CONVERT_CUH
#define SPINDLE_KERNELS_PRIM_CONVERT_CUH

namespace spindle::prim {

SPINDLE__DEVICE uint32_t as_bits(float x) { return __float_as_uint(x); }
SPINDLE__DEVICE float as_float(uint32_t bits) { return __uint_as_float(bits); }

/* Two floats as two T. Overflow gives infinity, NaN gives 0x7fff. cvt.rn.{bf16x2,f16x2}.f32. */
template <class T>
SPINDLE__DEVICE uint32_t pack(float first, float second);
template <>
SPINDLE__DEVICE uint32_t pack<bf16>(float first, float second) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(second), "f"(first));
  return r;
}
template <>
SPINDLE__DEVICE uint32_t pack<f16>(float first, float second) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(second), "f"(first));
  return r;
}

/* Two T as two floats, exactly. Bit moves for bf16, cvt.f32.f16 for f16. */
template <class T>
SPINDLE__DEVICE float2 unpack(uint32_t two);
template <>
SPINDLE__DEVICE float2 unpack<bf16>(uint32_t two) {
  return make_float2(__uint_as_float(two << 16), __uint_as_float(two & 0xffff0000u));
}
template <>
SPINDLE__DEVICE float2 unpack<f16>(uint32_t two) {
  float2 r;
  asm("{\n.reg .f16 a, b;\nmov.b32 {a, b}, %2;\ncvt.f32.f16 %0, a;\ncvt.f32.f16 %1, b;\n}" : "=f"(r.x), "=f"(r.y) : "r"(two));
  return r;
}

/* Two e4m3 as two f16, exactly; NaN (0x7f, 0xff) stays NaN. cvt.rn.f16x2.e4m3x2, from sm_89. Before, the bits of
 * an e4m3, moved to where f16 has them, read as its value times 2^-8: the exponent bias is 7 there and 15 here. */
SPINDLE__DEVICE uint32_t e4m3x2_to_f16x2(uint16_t two) {
  uint32_t r;
#if __CUDA_ARCH__ >= 890
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(two));
#else
  const uint32_t high = __byte_perm(two, 0, 0x1404); /* each byte in the upper half of its 16 bits */
  const uint32_t moved = (high & 0x80008000u) | (high & 0x7f007f00u) >> 1;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(moved), "r"(0x5c005c00u));
  r |= __vcmpeq2(high & 0x7f007f00u, 0x7f007f00u) & 0x7fff7fffu;
#endif
  return r;
}

/* Two floats as two e4m3. Beyond +-448 and infinities: +-448; NaN gives 0x7f. cvt.rn.satfinite.e4m3x2.f32, from sm_89. Before, by
 * its definition: normal numbers lose 20 bits of mantissa, to nearest even; below 2^-6 a sum with 2^14 rounds at 2^-9. */
SPINDLE__DEVICE uint16_t pack_e4m3x2(float first, float second) {
#if __CUDA_ARCH__ >= 890
  uint16_t r;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(r) : "f"(second), "f"(first));
  return r;
#else
  uint32_t r = 0;
  SPINDLE__UNROLL
  for (int i = 0; i < 2; ++i) {
    const uint32_t bits = as_bits(i ? second : first), magnitude = bits & 0x7fffffffu;
    uint32_t e = (magnitude + 0x7ffffu + (magnitude >> 20 & 1) - (120u << 23)) >> 20;
    if (magnitude < 121u << 23) e = as_bits(as_float(magnitude) + 16384.0f) - as_bits(16384.0f);
    if (magnitude >= 0x43e00000u) e = 0x7e;
    e |= bits >> 24 & 0x80;
    r |= (magnitude > 0x7f800000u ? 0x7f : e) << (8 * i);
  }
  return (uint16_t)r;
#endif
}

}  // namespace spindle::prim

#endif
