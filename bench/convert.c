#include "convert.h"

#include <spindle/spindle.h>
#include <string.h>

const char *const tool_dtype_names[] = {"f32", "f16", "bf16", NULL};

const char *tool_dtype_name(int32_t dtype) { return tool_dtype_names[dtype - SPINDLE_F32]; }

size_t tool_dtype_bytes(int32_t dtype) { return dtype == SPINDLE_F32 ? 4 : dtype == SPINDLE_F8E4M3 ? 1 : 2; }

double tool_dtype_roundoff(int32_t dtype) { return dtype == SPINDLE_F32 ? 0x1p-24 : dtype == SPINDLE_F16 ? 0x1p-11 : 0x1p-8; }

static uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static uint16_t to_bf16(float x) {
  uint32_t bits = bits_of(x);
  if (x != x) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Halves below 2^-14 are multiples of 2^-24: adding and subtracting a number of that spacing rounds to them. */
static uint16_t to_f16(float x) {
  uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00);
  if (magnitude < 0x38800000) return (uint16_t)(sign | (bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f)));
  magnitude += 0xfff + (magnitude >> 13 & 1);
  if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7c00); /* past 65504: infinity */
  return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
}

/* Numbers below 2^-6 are multiples of 2^-9. Saturates at 448. */
static uint8_t to_e4m3(float x) {
  uint32_t bits = bits_of(x), sign = bits >> 24 & 0x80, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint8_t)(sign | 0x7f);
  if (magnitude < 0x3c800000) return (uint8_t)(sign | (bits_of(float_of(magnitude) + 16384.0f) - bits_of(16384.0f)));
  magnitude += 0x7ffff + (magnitude >> 20 & 1);
  if (magnitude >= 0x43f00000) return (uint8_t)(sign | 0x7e);
  return (uint8_t)(sign | (magnitude - 0x3c000000) >> 20);
}

static float from_f16(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) return float_of(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  if (magnitude < 0x400) return float_of(sign | bits_of((float)magnitude * 0x1p-24f));
  return float_of(sign | ((magnitude << 13) + 0x38000000));
}

void tool_from_f32(int32_t dtype, void *out, const float *in, int64_t count) {
  uint16_t *halves = out;
  uint8_t *bytes = out;
  if (dtype == SPINDLE_F32) {
    memcpy(out, in, (size_t)count * sizeof *in);
    return;
  }
  if (dtype == SPINDLE_F8E4M3) {
    for (int64_t k = 0; k < count; k++) bytes[k] = to_e4m3(in[k]);
    return;
  }
  for (int64_t k = 0; k < count; k++) halves[k] = dtype == SPINDLE_F16 ? to_f16(in[k]) : to_bf16(in[k]);
}

void tool_to_f32(int32_t dtype, float *out, const void *in, int64_t count) {
  const uint16_t *halves = in;
  if (dtype == SPINDLE_F32) {
    memcpy(out, in, (size_t)count * sizeof *out);
    return;
  }
  for (int64_t k = 0; k < count; k++) out[k] = dtype == SPINDLE_F16 ? from_f16(halves[k]) : float_of((uint32_t)halves[k] << 16);
}
