// Floating point formats, by their definitions.
#ifndef EMULATOR_FORMATS_H
#define EMULATOR_FORMATS_H

#include <cstdint>
#include <cstring>

namespace emulator {

inline uint32_t float_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

inline float bits_float(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

inline float bf16_to_float(uint16_t h) { return bits_float((uint32_t)h << 16); }

inline uint16_t float_to_bf16(float x) {
  const uint32_t u = float_bits(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

inline float f16_to_float(uint16_t h) {
  const uint32_t sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31, mantissa = h & 1023u;
  if (exponent == 31) return bits_float(sign | 0x7f800000u | mantissa << 13);
  if (exponent) return bits_float(sign | (exponent + 112) << 23 | mantissa << 13);
  return bits_float(sign | float_bits((float)mantissa * 0x1p-24f));
}

inline uint16_t float_to_f16(float x) {
  const uint32_t u = float_bits(x), sign = u >> 16 & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fff;
  if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00);  // 65520 and up round to infinity
  if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 leaves the mantissa in units of 2^-24, rounded
    return (uint16_t)(sign | (float_bits(bits_float(magnitude) + 0.5f) & 0x7ff));
  }
  return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13));
}

// Finite but for 0x7f and 0xff.
inline uint16_t e4m3_to_f16(uint8_t b) {
  if ((b & 0x7f) == 0x7f) return 0x7fff;
  const int exponent = b >> 3 & 15;
  const float mantissa = (float)(exponent ? 8 + (b & 7) : b & 7);
  const float value = mantissa * bits_float((uint32_t)(127 + (exponent ? exponent : 1) - 7 - 3) << 23);
  return (uint16_t)(float_to_f16(value) | (b & 0x80) << 8);
}

// To the nearest, ties to even; what is beyond 448 becomes 448.
inline uint8_t float_to_e4m3(float x) {
  const uint32_t u = float_bits(x), sign = u >> 24 & 0x80, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7f;
  if (magnitude >= 0x43e00000u) return (uint8_t)(sign | 0x7e);
  if (magnitude < 0x3c800000u) {  // below 2^-6: adding 2^14 leaves the mantissa in units of 2^-9, rounded
    return (uint8_t)(sign | (float_bits(bits_float(magnitude) + 16384.0f) & 0xf));
  }
  return (uint8_t)(sign | ((magnitude - 0x3c000000u + 0x7ffffu + (magnitude >> 20 & 1)) >> 20));
}

inline float e4m3_to_float(uint8_t b) { return f16_to_float(e4m3_to_f16(b)); }

// What .ftz does to inputs and results.
inline float flush(float x) { return (float_bits(x) & 0x7f800000u) ? x : bits_float(float_bits(x) & 0x80000000u); }

}  // namespace emulator

#endif
