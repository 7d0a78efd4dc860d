/* Helpers around the methods that touch no device: ALiBi slopes, absolute position tables, scaling laws of a RoPE base. */
#include "internal.h"

#include <math.h>
#include <string.h>

#define TWO_PI    6.28318530717958647692528676655900577
#define MAX_HEADS 4096

static spindle_status check_pointer(const void *pointer, const char *name) {
  return pointer ? SPINDLE_OK : spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s is NULL", name);
}

static spindle_status check_integer(const char *name, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return SPINDLE_OK;
  return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s is %lld, must be in [%lld, %lld]", name, (long long)value, (long long)least,
                       (long long)most);
}

/* Also refuses NaN and infinity. */
static spindle_status check_above(const char *name, double value, double limit) {
  if (value > limit && isfinite(value)) return SPINDLE_OK;
  return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s is %g, must be finite and greater than %.17g", name, value, limit);
}

static spindle_status check_not_negative(const char *name, double value) {
  if (value >= 0 && isfinite(value)) return SPINDLE_OK;
  return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s is %g, must be finite and at least 0", name, value);
}

/* ---- ALiBi ---- */

/* With P the largest power of two <= num_heads: the slopes of P heads, then every other slope of 2 P heads, appended. */
static double alibi_slope(int32_t head, int32_t num_heads, double bias_max) {
  int32_t power = 1;
  while (power * 2 <= num_heads) power *= 2;
  if (head < power) return exp2(-bias_max * (head + 1) / power);
  return exp2(-bias_max * (2 * (head - power) + 1) / (2 * power));
}

spindle_status spindle_alibi_slopes(int32_t num_heads, double bias_max, double factor, double alpha, float *slopes) {
  SPINDLE__TRY(check_integer("num_heads", num_heads, 1, MAX_HEADS));
  SPINDLE__TRY(check_not_negative("bias_max", bias_max));
  SPINDLE__TRY(check_not_negative("factor", factor));
  SPINDLE__TRY(check_not_negative("alpha", alpha));
  SPINDLE__TRY(check_pointer(slopes, "slopes"));
  for (int32_t head = 0; head < num_heads; head++) {
    double slope = alibi_slope(head, num_heads, bias_max > 0 ? bias_max : 8);
    if (factor > 0) slope /= factor;
    if (alpha > 0 && head > 0) slope *= pow(alpha, -(double)head / (num_heads - 1)); /* head 0: 0 / 0 where it is alone */
    slopes[head] = (float)slope;
  }
  return SPINDLE_OK;
}

/* ---- Absolute position tables ---- */

/* position * w loses 1e-4 of an angle at 2^40; the rounding error of the product makes up for it. */
static void sine_and_cosine(int64_t position, double w, double *sine, double *cosine) {
  double angle = (double)position * w, lost = fma((double)position, w, -angle);
  *sine = sin(angle) + cos(angle) * lost;
  *cosine = cos(angle) - sin(angle) * lost;
}

spindle_status spindle_sinusoidal(int32_t layout, int32_t dim, int64_t begin, int64_t count, float *out) {
  bool paper = layout == SPINDLE_SINUSOIDAL_PAPER;
  SPINDLE__TRY(check_integer("layout", layout, SPINDLE_SINUSOIDAL_PAPER, SPINDLE_SINUSOIDAL_FAIRSEQ));
  /* fairseq divides by dim / 2 - 1, and pads an odd dim with a zero. */
  SPINDLE__TRY(check_integer("dim", dim, paper ? 2 : 4, INT32_MAX));
  if (paper && dim % 2) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "dim is %d, must be even", dim);
  SPINDLE__TRY(check_integer("begin", begin, 0, SPINDLE__MAX_INDEX));
  SPINDLE__TRY(check_integer("count", count, 0, SPINDLE__MAX_INDEX - begin));
  if (count > 0) SPINDLE__TRY(check_pointer(out, "out"));
  int32_t pairs = dim / 2;
  for (int64_t row = 0; row < count; row++, out += dim) {
    for (int32_t t = 0; t < pairs; t++) {
      double w = pow(10000, paper ? -2.0 * t / dim : -(double)t / (pairs - 1)), sine, cosine;
      sine_and_cosine(begin + row, w, &sine, &cosine);
      out[paper ? 2 * t : t] = (float)sine;
      out[paper ? 2 * t + 1 : pairs + t] = (float)cosine;
    }
    if (dim % 2) out[dim - 1] = 0;
  }
  return SPINDLE_OK;
}

spindle_status spindle_hierarchical(const float *table, int32_t length, int32_t dim, double alpha, int64_t count, float *out) {
  SPINDLE__TRY(check_pointer(table, "table"));
  SPINDLE__TRY(check_integer("length", length, 1, INT32_MAX));
  SPINDLE__TRY(check_integer("dim", dim, 1, INT32_MAX));
  /* At 1/2 positions (x, y) and (y, x) would share an embedding. */
  if (!(alpha >= 0 && alpha < 1 && alpha != 0.5))
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "alpha is %g, must be in (0, 1) and not 0.5, or 0 for 0.4", alpha);
  SPINDLE__TRY(check_integer("count", count, 0, (int64_t)length * length));
  if (count > 0) SPINDLE__TRY(check_pointer(out, "out"));
  if (alpha == 0) alpha = 0.4;
  for (int64_t k = 0; k < count; k++, out += dim) {
    const float *high = table + k / length * dim, *low = table + k % length * dim;
    for (int32_t c = 0; c < dim; c++) {
      double first = table[c], u_high = (high[c] - alpha * first) / (1 - alpha), u_low = (low[c] - alpha * first) / (1 - alpha);
      out[c] = (float)(alpha * u_high + (1 - alpha) * u_low);
    }
  }
  return SPINDLE_OK;
}

/* ---- Scaling laws of RoPE extrapolation ---- */

spindle_status spindle_rope_max_extension(int32_t rotary_dim, double theta, double train_length, double tune_theta,
                                          double tune_length, spindle_rope_extension *extension) {
  SPINDLE__TRY(check_integer("rotary_dim", rotary_dim, 2, SPINDLE__MAX_HEAD_DIM));
  if (rotary_dim % 2) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "rotary_dim is %d, must be even", rotary_dim);
  SPINDLE__TRY(check_above("theta", theta, 1));
  SPINDLE__TRY(check_above("train_length", train_length, TWO_PI));
  SPINDLE__TRY(check_above("tune_theta", tune_theta, 1));
  SPINDLE__TRY(check_above("tune_length", tune_length, TWO_PI));
  SPINDLE__TRY(check_pointer(extension, "extension"));
  spindle_rope_extension found = {.struct_size = extension->struct_size};
  if (found.struct_size < sizeof found.struct_size || found.struct_size > sizeof found)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "extension.struct_size is %zu, expected sizeof the struct (%zu)",
                         found.struct_size, sizeof found);
  double log_train = log(train_length / TWO_PI);
  double critical = 2 * ceil(rotary_dim / 2 * log_train / log(theta));
  found.critical_dimension = critical < rotary_dim ? (int32_t)critical : rotary_dim;
  found.critical_base = pow(theta, log(tune_length / TWO_PI) / log_train);
  found.max_length = tune_length;
  if (tune_theta > found.critical_base)
    found.max_length = TWO_PI * pow(tune_theta, (double)found.critical_dimension / rotary_dim);
  memcpy(extension, &found, found.struct_size);
  return SPINDLE_OK;
}
