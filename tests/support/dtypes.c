#include "dtypes.h"

#include <math.h>
#include <string.h>

/* sign, then exponent of the given bias, then mantissa bits. `largest`: the code that stands for all beyond. */
typedef struct format {
  int bits, mantissa, bias;
  uint32_t largest;
} format;

static const format f16 = {16, 10, 15, 0x7c00}, bf16 = {16, 7, 127, 0x7f80}, f8 = {8, 3, 7, 0x7e};

static const format *format_of(int32_t dtype) { return dtype == SPINDLE_F16 ? &f16 : dtype == SPINDLE_BF16 ? &bf16 : &f8; }

static uint32_t encode(const format *f, float value) {
  uint32_t sign = signbit(value) ? 1u << (f->bits - 1) : 0;
  double magnitude = fabs((double)value);
  if (isnan(value)) return (1u << (f->bits - 1)) - 1;
  if (magnitude == 0) return sign;
  if (isinf(value)) return sign | f->largest;
  int exponent = ilogb(magnitude);
  if (exponent < 1 - f->bias) exponent = 1 - f->bias; /* subnormal */
  double steps = rint(ldexp(magnitude, f->mantissa - exponent));
  uint32_t code = ((uint32_t)(exponent + f->bias) << f->mantissa) + (uint32_t)steps - (1u << f->mantissa);
  return sign | (code < f->largest ? code : f->largest);
}

static float decode(const format *f, uint32_t code) {
  uint32_t magnitude = code & ((1u << (f->bits - 1)) - 1), mantissa = magnitude & ((1u << f->mantissa) - 1);
  int exponent = (int)(magnitude >> f->mantissa);
  double value;
  if (magnitude > f->largest)
    value = NAN;
  else if (magnitude == f->largest && f != &f8)
    value = INFINITY;
  else if (exponent == 0)
    value = ldexp(mantissa, 1 - f->bias - f->mantissa);
  else
    value = ldexp((1u << f->mantissa) + mantissa, exponent - f->bias - f->mantissa);
  return (float)(code >> (f->bits - 1) ? -value : value);
}

size_t test_dtype_bytes(int32_t dtype) { return dtype == SPINDLE_F32 ? 4 : dtype == SPINDLE_F8E4M3 ? 1 : 2; }

void test_store(int32_t dtype, void *at, float value) {
  if (dtype == SPINDLE_F32) {
    memcpy(at, &value, sizeof value);
    return;
  }
  uint32_t code = encode(format_of(dtype), value);
  uint16_t two = (uint16_t)code;
  uint8_t one = (uint8_t)code;
  if (dtype == SPINDLE_F8E4M3)
    memcpy(at, &one, 1);
  else
    memcpy(at, &two, 2);
}

float test_load(int32_t dtype, const void *at) {
  float value;
  uint16_t two = 0;
  uint8_t one;
  if (dtype == SPINDLE_F32) {
    memcpy(&value, at, sizeof value);
    return value;
  }
  memcpy(&one, at, 1);
  if (dtype != SPINDLE_F8E4M3) memcpy(&two, at, 2);
  return decode(format_of(dtype), dtype == SPINDLE_F8E4M3 ? one : two);
}

float test_round(int32_t dtype, float value) {
  float stored;
  test_store(dtype, &stored, value);
  return test_load(dtype, &stored);
}

double test_unit_roundoff(int32_t dtype) {
  return dtype == SPINDLE_F32 ? 0x1p-24 : dtype == SPINDLE_F16 ? 0x1p-11 : dtype == SPINDLE_BF16 ? 0x1p-8 : 0x1p-4;
}
