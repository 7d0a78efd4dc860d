/* Storage types to float and back, round to nearest even. Plain loops over integers that compilers vectorise for any instruction set; F16C does the
 * half floats where there is one. Inputs never become float subnormals, which some machines multiply a hundred times slower. */
#ifndef SPINDLE_HOST_CPU_ISA_CONVERT_H
#define SPINDLE_HOST_CPU_ISA_CONVERT_H

#include "vec.h"

ALWAYS_INLINE float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

ALWAYS_INLINE uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* `mantissa` bits after the sign and exponent have been moved to a float's place: numbers of an exponent field with bias 127 - rebias. Subnormals
 * become normal by borrowing 1 and giving it back. */
ALWAYS_INLINE float widen(uint32_t magnitude, uint32_t sign, uint32_t rebias) {
  float normal = float_of(magnitude + (rebias << 23));
  float subnormal = float_of(magnitude + ((rebias + 1) << 23)) - float_of((rebias + 1) << 23);
  return float_of(bits_of(magnitude < 1u << 23 ? subnormal : normal) | sign);
}

ALWAYS_INLINE float float_of_f16(uint16_t h) {
  uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13, sign = (uint32_t)(h & 0x8000) << 16;
  float x = widen(magnitude, sign, 112);
  return magnitude >= 31u << 23 ? float_of(magnitude | 0x7f800000u | sign) : x;
}

ALWAYS_INLINE float float_of_f8(uint8_t e) {
  uint32_t magnitude = (uint32_t)(e & 0x7f) << 20, sign = (uint32_t)(e & 0x80) << 24;
  float x = widen(magnitude, sign, 120);
  return magnitude == 0x7fu << 20 ? float_of(0x7fc00000u | sign) : x;
}

/* f16 bits of x, to nearest even; overflow to infinity. */
ALWAYS_INLINE uint16_t f16_of_float(float x) {
  uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
  uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f); /* the sum rounds at 2^-24, f16's last place below 2^-14 */
  uint32_t h = magnitude < 113u << 23 ? subnormal : normal;
  if (magnitude >= 0x477ff000u) h = 0x7c00; /* 65520 and more */
  if (magnitude > 0x7f800000u) h = 0x7e00;
  return (uint16_t)(h | sign);
}

ALWAYS_INLINE uint16_t bf16_of_float(float x) {
  uint32_t bits = bits_of(x);
  uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return (uint16_t)((bits & 0x7fffffff) > 0x7f800000u ? (bits >> 16 | 0x40) : rounded);
}

/* e4m3 saturates: no infinities. */
ALWAYS_INLINE uint8_t f8_of_float(float x) {
  uint32_t bits = bits_of(x), sign = bits >> 24 & 0x80, magnitude = bits & 0x7fffffff;
  uint32_t normal = (magnitude + 0x7ffff + (magnitude >> 20 & 1) - (120u << 23)) >> 20;
  uint32_t subnormal = bits_of(float_of(magnitude) + 16384.0f) - bits_of(16384.0f); /* rounds at 2^-9 */
  uint32_t e = magnitude < 121u << 23 ? subnormal : normal;
  if (magnitude >= 0x43e00000u) e = 0x7e; /* 448 and more */
  if (magnitude > 0x7f800000u) e = 0x7f;
  return (uint8_t)(e | sign);
}

static void f16_to_float(float *restrict out, const uint16_t *restrict in, int32_t count) {
  int32_t x = 0;
#if defined(__AVX512F__)
  for (; x + 16 <= count; x += 16) store(out + x, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(in + x))));
#elif defined(__F16C__)
  for (; x + 8 <= count; x += 8) store(out + x, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(in + x))));
#endif
  for (; x < count; x++) out[x] = float_of_f16(in[x]);
}

static void to_float(float *restrict out, const void *restrict in, int32_t dtype, int32_t count) {
  const uint16_t *half = in;
  const uint8_t *byte = in;
  switch (dtype) {
    case SPINDLE_F32: memcpy(out, in, (size_t)count * 4); break;
    case SPINDLE_F16: f16_to_float(out, half, count); break;
    case SPINDLE_BF16:
      for (int32_t x = 0; x < count; x++) out[x] = float_of((uint32_t)half[x] << 16);
      break;
    default:
      for (int32_t x = 0; x < count; x++) out[x] = float_of_f8(byte[x]);
  }
}

static void from_float(void *restrict out, const float *restrict in, int32_t dtype, int32_t count) {
  uint16_t *half = out;
  uint8_t *byte = out;
  switch (dtype) {
    case SPINDLE_F32: memcpy(out, in, (size_t)count * 4); break;
    case SPINDLE_F16:
      for (int32_t x = 0; x < count; x++) half[x] = f16_of_float(in[x]);
      break;
    case SPINDLE_BF16:
      for (int32_t x = 0; x < count; x++) half[x] = bf16_of_float(in[x]);
      break;
    default:
      for (int32_t x = 0; x < count; x++) byte[x] = f8_of_float(in[x]);
  }
}

#endif
