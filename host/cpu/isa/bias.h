/* Biases by distance. Evaluated in double, because p log2(dist) loses six bits before it becomes an exponent; a tile needs one
 * value per distance, not per score, so this costs little. */
#ifndef SPINDLE_HOST_CPU_ISA_BIAS_H
#define SPINDLE_HOST_CPU_ISA_BIAS_H

#include "vec.h"

#define LOG2_E 1.4426950408889634

/* x > 0, normal. To 1e-12: 2 atanh((m - 1) / (m + 1)) of the mantissa m in [sqrt(1/2), sqrt(2)). */
ALWAYS_INLINE double log2_double(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  uint64_t over = bits - 0x3fe6a09e667f3bcdu;
  int32_t exponent = (int32_t)(over >> 32) >> 20;
  bits -= over & 0xfff0000000000000u;
  double m;
  memcpy(&m, &bits, sizeof m);
  double f = (m - 1.0) / (m + 1.0), z = f * f;
  double series = 1.0 + z * (1.0 / 3 + z * (1.0 / 5 + z * (1.0 / 7 + z * (1.0 / 9 + z * (1.0 / 11 + z * (1.0 / 13))))));
  return exponent + 2.0 * LOG2_E * f * series;
}

/* 2^x to 1e-12, x in [-1000, 1000]. */
ALWAYS_INLINE double exp2_double(double x) {
  double shifted = x + 6755399441055744.0;
  double y = x - (shifted - 6755399441055744.0);
  double p = 1.3175844e-6;
  p = p * y + 1.530973644e-5;
  p = p * y + 1.5403851798e-4;
  p = p * y + 1.33334520659e-3;
  p = p * y + 9.618128542815e-3;
  p = p * y + 5.5504109393379e-2;
  p = p * y + 0.24022650698880;
  p = p * y + 0.69314718054651;
  p = p * y + 1.0;
  uint64_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 1023) << 52;
  double scale;
  memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

ALWAYS_INLINE double distance(int64_t first, int32_t x) {
  double d = (double)first - x;
  return d < 0 ? -d : d;
}

static void bias(int32_t kind, float a, float p, int64_t first, int32_t count, float *out) {
  switch (kind) {
    case SPINDLE_BIAS_ALIBI:
      for (int32_t x = 0; x < count; x++) out[x] = (float)(-(double)a * LOG2_E * distance(first, x));
      break;
    case SPINDLE_BIAS_KERPLE_LOG:
      for (int32_t x = 0; x < count; x++) out[x] = (float)(-(double)p * log2_double(1.0 + (double)a * distance(first, x)));
      break;
    default: /* KERPLE power; log2(1e-30) stands for distance 0, whose bias is 0 */
      for (int32_t x = 0; x < count; x++) {
        double d = distance(first, x), power = p * log2_double(d > 0 ? d : 1.0);
        power = power > 500.0 ? 500.0 : power;
        out[x] = d > 0 ? (float)(-(double)a * LOG2_E * exp2_double(power)) : 0.0f;
      }
  }
}

#endif
