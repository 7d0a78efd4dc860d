/* Storage types to float and back, round to nearest even. Inputs never become float subnormals, which some machines multiply a
 * hundred times slower. */
#ifndef SPINDLE_HOST_CPU_ISA_CONVERT_H
#define SPINDLE_HOST_CPU_ISA_CONVERT_H

#include <spindle/spindle.h>

#include "vec.h"

typedef uint16_t vh __attribute__((vector_size(WIDTH * 2)));
typedef uint8_t vb __attribute__((vector_size(WIDTH)));

ALWAYS_INLINE int32_t size_of(int32_t dtype) { return dtype == SPINDLE_F32 ? 4 : dtype == SPINDLE_F8E4M3 ? 1 : 2; }

/* ---- To float ---- */

/* Numbers whose exponent field, now at a float's place, has bias 127 - rebias. Subnormals become normal by borrowing 1 and giving
 * it back. */
ALWAYS_INLINE vf widen(vu magnitude, vu sign, uint32_t rebias) {
  vf normal = (vf)(magnitude + (rebias << 23));
  vf subnormal = (vf)(magnitude + ((rebias + 1) << 23)) - (vf)(splat_unsigned((rebias + 1) << 23));
  return (vf)((vu)blend((vi)(magnitude < 1u << 23), subnormal, normal) | sign);
}

ALWAYS_INLINE vf float_of_f16(vh h) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps((__m256i)h);
#elif defined(__F16C__)
  return _mm256_cvtph_ps((__m128i)h);
#else
  vu wide = __builtin_convertvector(h, vu), magnitude = (wide & 0x7fff) << 13, sign = (wide & 0x8000) << 16;
  return blend((vi)(magnitude >= 31u << 23), (vf)(magnitude | 0x7f800000u | sign), widen(magnitude, sign, 112));
#endif
}

ALWAYS_INLINE vf float_of_f8(vb e) {
  vu wide = __builtin_convertvector(e, vu), magnitude = (wide & 0x7f) << 20, sign = (wide & 0x80) << 24;
  return blend((vi)(magnitude == 0x7fu << 20), (vf)(0x7fc00000u | sign), widen(magnitude, sign, 120));
}

/* WIDTH numbers. */
ALWAYS_INLINE vf load_as(const void *p, const int32_t dtype) {
  vh half;
  vb byte;
  switch (dtype) {
    case SPINDLE_F32: return load(p);
    case SPINDLE_F16: memcpy(&half, p, sizeof half); return float_of_f16(half);
    case SPINDLE_BF16: memcpy(&half, p, sizeof half); return (vf)(__builtin_convertvector(half, vu) << 16);
    default: memcpy(&byte, p, sizeof byte); return float_of_f8(byte);
  }
}

/* Fewer: the rest is 0. Nothing past them is read. */
ALWAYS_INLINE vf load_some(const void *p, const int32_t dtype, int32_t count) {
  char copy[WIDTH * 4] = {0};
  memcpy(copy, p, (size_t)count * (size_t)size_of(dtype));
  return load_as(copy, dtype);
}

/* out is padded: whole vectors are written. */
ALWAYS_INLINE void to_float_as(float *out, const char *in, const int32_t dtype, int32_t count) {
  int32_t size = size_of(dtype), x = 0;
  for (; x + WIDTH <= count; x += WIDTH) store(out + x, load_as(in + x * size, dtype));
  if (x < count) store(out + x, load_some(in + x * size, dtype, count - x));
}

/* Calls f(..., dtype) with the type as a constant, so that its loops are made for it. */
#define WITH_DTYPE(dtype, f, ...)                           \
  switch (dtype) {                                          \
    case SPINDLE_F32: f(__VA_ARGS__, SPINDLE_F32); break;   \
    case SPINDLE_F16: f(__VA_ARGS__, SPINDLE_F16); break;   \
    case SPINDLE_BF16: f(__VA_ARGS__, SPINDLE_BF16); break; \
    default: f(__VA_ARGS__, SPINDLE_F8E4M3);                \
  }

ALWAYS_INLINE void to_float_order(float *out, const char *in, int32_t count, const int32_t dtype) {
  to_float_as(out, in, dtype, count);
}

static void to_float(float *out, const void *in, int32_t dtype, int32_t count){WITH_DTYPE(dtype, to_float_order, out, in, count)}

/* ---- From float: not on the way of keys and values, so plain loops that compilers vectorise ---- */

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

/* Overflow to infinity. */
ALWAYS_INLINE uint16_t f16_of_float(float x) {
  uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
  uint32_t subnormal =
      bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f); /* the sum rounds at 2^-24, f16's last place below 2^-14 */
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

/* Saturates: e4m3 has no infinities. */
ALWAYS_INLINE uint8_t f8_of_float(float x) {
  uint32_t bits = bits_of(x), sign = bits >> 24 & 0x80, magnitude = bits & 0x7fffffff;
  uint32_t normal = (magnitude + 0x7ffff + (magnitude >> 20 & 1) - (120u << 23)) >> 20;
  uint32_t subnormal = bits_of(float_of(magnitude) + 16384.0f) - bits_of(16384.0f); /* rounds at 2^-9 */
  uint32_t e = magnitude < 121u << 23 ? subnormal : normal;
  if (magnitude >= 0x43e00000u) e = 0x7e; /* 448 and more */
  if (magnitude > 0x7f800000u) e = 0x7f;
  return (uint8_t)(e | sign);
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
