/* The stand-in for a model: random projections of tokens. And the check: what the server made of pages, shared documents and
 * context shifts must be what each text gives on its own, dense and from its beginning, in float64. */
#include <math.h>
#include <string.h>

#include "server.h"

/* ---- Numbers: multiples of 1/32 below 4, so that f32, f16 and bf16 hold the same ---- */

size_t dtype_bytes(int32_t dtype) { return dtype == SPINDLE_F32 ? 4 : 2; }

/* splitmix64 (Steele, Lea, Flood 2014) */
uint64_t scramble(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

static uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static float bits_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* The bits of a number that f16 holds as a normal one, or of 0. */
static uint16_t half_bits(float x) {
  uint32_t bits = float_bits(x), size = bits & 0x7fffffff, sign = bits >> 16 & 0x8000;
  return (uint16_t)(sign | (size ? (size - (112u << 23)) >> 13 : 0));
}

static void put(int32_t dtype, float x, size_t at, void *out) {
  if (dtype == SPINDLE_F32)
    ((float *)out)[at] = x;
  else
    ((uint16_t *)out)[at] = dtype == SPINDLE_BF16 ? (uint16_t)(float_bits(x) >> 16) : half_bits(x);
}

static float half_float(uint16_t half) {
  int exponent = half >> 10 & 31, mantissa = half & 1023;
  float size = exponent == 31 ? NAN : exponent ? ldexpf((float)(1024 + mantissa), exponent - 25) : ldexpf((float)mantissa, -24);
  return half & 0x8000 ? -size : size;
}

void to_floats(int32_t dtype, const void *x, size_t count, float *out) {
  for (size_t i = 0; i < count; i++)
    out[i] = dtype == SPINDLE_F32    ? ((const float *)x)[i]
             : dtype == SPINDLE_BF16 ? bits_float((uint32_t)((const uint16_t *)x)[i] << 16)
                                     : half_float(((const uint16_t *)x)[i]);
}

/* The sum of four numbers of 6 bits is near normal; standard deviation 1.15. */
void project(int32_t dtype, int32_t layer, int32_t what, const int64_t *token, int32_t count, void *out) {
  int32_t channels = (what == QUERY ? HEADS : KV_HEADS) * DIM;
  for (int32_t row = 0; row < count; row++) {
    uint64_t seed = scramble((uint64_t)token[row] * 3 * LAYERS + (uint64_t)(layer * 3 + what));
    for (int32_t c = 0; c < channels; c++) {
      uint64_t r = scramble(seed + (uint64_t)c);
      int sum = (int)(r & 63) + (int)(r >> 6 & 63) + (int)(r >> 12 & 63) + (int)(r >> 18 & 63) - 126;
      put(dtype, (float)sum / 32, (size_t)row * (size_t)channels + (size_t)c, out);
    }
  }
}

/* ---- The check ---- */

/* Rounding rotated q and k to the type, of unit roundoff r, puts a score off by 0.6 r |q| |k| / D root mean square: with
 * |q|, |k| <= 12 and YaRN's A^2 = 1.3 that is 1.8 r, four standard deviations 7 r. A weight has that error and a rounding of its
 * own, 8 r in all, and values differ from their mean by 2 where few keys are seen: 16 r, and one of O itself, which is below 4.
 * What is float, and cos and sin (1e-6), come to 4e-5 in the same way. A wrong position is off by some tenths. */
double tolerance(int32_t dtype) {
  double r = dtype == SPINDLE_F32 ? 0x1p-24 : dtype == SPINDLE_F16 ? 0x1p-11 : 0x1p-8;
  return 20 * r + 4e-5;
}

/* The reference takes ordinary memory, so the keys and values of a text are put there as they come, one row a token. */
static void fill(engine *oracle, int32_t layer, const step *s, const request *seats) {
  size_t row = KV_HEADS * DIM * dtype_bytes(oracle->shape.kv_dtype);
  for (int32_t r = 0; r < SEATS; r++) {
    size_t at = (size_t)r * MAX_KEYS * row;
    project(oracle->shape.kv_dtype, layer, KEY, seats[r].text, s->kv_len[r], (char *)oracle->k[layer] + at);
    project(oracle->shape.kv_dtype, layer, VALUE, seats[r].text, s->kv_len[r], (char *)oracle->v[layer] + at);
  }
}

double worst_error(engine *oracle, const step *s, const request *seats, float (*o)[MAX_ROWS * HEADS * DIM]) {
  static float want[MAX_ROWS * HEADS * DIM];
  double worst = 0;
  engine_prepare(oracle, s);
  for (int32_t layer = 0; layer < LAYERS; layer++) {
    fill(oracle, layer, s, seats);
    engine_attend(oracle, layer, s, want);
    for (int32_t x = 0; x < s->rows * HEADS * DIM; x++) {
      double error = fabs((double)o[layer][x] - (double)want[x]);
      if (isnan(error) || error > worst) worst = error; /* a NaN stays: nothing is greater */
    }
  }
  return worst;
}
