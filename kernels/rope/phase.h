/* Exact phases and canonical (cos, sin).
 *
 * A frequency is kept as the fraction of a turn that one token adds, in units of 2^-64. The phase of position p is p * step mod
 * 2^64: an integer multiply whose overflow is the range reduction, exact at any length.
 */
#ifndef SPINDLE_KERNELS_ROPE_PHASE_H
#define SPINDLE_KERNELS_ROPE_PHASE_H

#include <math.h>

#include "../common.h"

#define SPINDLE__TWO_PI     6.283185307179586
#define SPINDLE__TWO_PI_LOW 2.4492935982947064e-16 /* 2 pi - SPINDLE__TWO_PI */

/* Positions [8 m, 8 m + 8) share one exact phase and differ by float rotations: 7 of them cost 5e-7, 127 would cost 6e-6. */
#define SPINDLE__PHASE_RUN 8

/* round(w / (2 pi k) 2^64) mod 2^64: the phase that one token adds at w / k radians. w is taken as given and divided in
 * double-double, so the error is the rounding to an integer alone: half a unit, 1.9e-7 rad at position 2^40. (A plain double
 * quotient would be off by 6.5e-5 there.) |w / k| < 1e6. */
SPINDLE__SHARED uint64_t spindle__phase_step(double w, double k) {
  double turns = fabs(w);
  double den = k * SPINDLE__TWO_PI;
  double den_low = fma(k, SPINDLE__TWO_PI, -den) + k * SPINDLE__TWO_PI_LOW;
  double q = turns / den;
  double q_low = (fma(-q, den, turns) - q * den_low) / den;
  double high = (q - floor(q)) * 0x1p64; /* exact */
  double whole = floor(high);
  int64_t rest = (int64_t)rint(q_low * 0x1p64 + (high - whole));
  uint64_t step = (uint64_t)whole + (uint64_t)rest;
  return w < 0 ? 0 - step : step;
}

/* cos and sin of phase 2 pi / 2^64, to 1.3e-7: the nearest quarter turn, and minimax polynomials (Cephes sinf, cosf) on +-pi/4.
 */
SPINDLE__SHARED void spindle__phase_cos_sin(uint64_t phase, float *c, float *s) {
  uint32_t turn = (uint32_t)((phase + 0x80000000u) >> 32);
  uint32_t quarter = (turn + 0x20000000u) >> 30;
  float x = (float)(int32_t)(turn - (quarter << 30)) * 1.4629180793e-9f; /* 2 pi / 2^32 */
  float z = x * x;
  float sin_z = spindle__fma(z, spindle__fma(z, -1.9515295891e-4f, 8.3321608736e-3f), -1.6666654611e-1f);
  float cos_z = spindle__fma(z, spindle__fma(z, 2.443315711809948e-5f, -1.388731625493765e-3f), 4.166664568298827e-2f);
  float sin_x = spindle__fma(x * z, sin_z, x);
  float cos_x = spindle__fma(z * z, cos_z, spindle__fma(-0.5f, z, 1.0f));
  float a = quarter & 1 ? sin_x : cos_x;
  float b = quarter & 1 ? cos_x : sin_x;
  *c = (quarter + 1) & 2 ? -a : a;
  *s = quarter & 2 ? -b : b;
}

/* cos and sin of a step, rounded once: the rotation by it is repeated up to 7 times, and so is its error. (With
 * spindle__phase_cos_sin's 1.2e-7 the whole would be off by up to 1.2e-6 at position 2^40.) Taylor polynomials on +-pi/4, to
 * 2e-9. */
SPINDLE__SHARED void spindle__step_cos_sin(uint64_t step, float *c, float *s) {
  uint32_t turn = (uint32_t)((step + 0x80000000u) >> 32);
  uint32_t quarter = (turn + 0x20000000u) >> 30;
  double x = (double)(int32_t)(turn - (quarter << 30)) * (SPINDLE__TWO_PI * 0x1p-32);
  double z = x * x;
  double sin_x = x + x * z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880))));
  double cos_x = 1.0 + z * (-1.0 / 2 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800)))));
  double a = quarter & 1 ? sin_x : cos_x;
  double b = quarter & 1 ? cos_x : sin_x;
  *c = (float)((quarter + 1) & 2 ? -a : a);
  *s = (float)(quarter & 2 ? -b : b);
}

/* Canonical (cos, sin) of the phase m * step + offset: exact at m & ~7, then m & 7 float rotations by `step`. A function of its
 * arguments alone, so a rotated key has the same bits in every tile, split, page and schedule. Error at most 1e-6. */
SPINDLE__SHARED void spindle__canonical_cos_sin(int64_t m, uint64_t step, uint64_t offset, float *c, float *s) {
  int64_t base = m & ~(int64_t)(SPINDLE__PHASE_RUN - 1);
  float cos_m, sin_m, cos_step, sin_step;
  spindle__phase_cos_sin((uint64_t)base * step + offset, &cos_m, &sin_m);
  spindle__step_cos_sin(step, &cos_step, &sin_step);
  for (; base < m; base++) {
    float next = cos_m * cos_step - sin_m * sin_step;
    sin_m = sin_m * cos_step + cos_m * sin_step;
    cos_m = next;
  }
  *c = cos_m;
  *s = sin_m;
}

#endif
