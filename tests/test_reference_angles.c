/* The reference backend's cosines and sines against 128-bit floating point, at positions to 2^40 and at Leaky ReRoPE's fractions.
 * The oracle must not share the error that it is there to find: cos(p * w) in plain float64 is off by 1e-4 at 2^40. */
#include <criterion/criterion.h>
#include <math.h>

#include "host/reference/reference.h"
#include "support/random.h"

#ifdef __SIZEOF_FLOAT128__
__extension__ typedef __float128 quad; /* 113 bits of mantissa */
#else
typedef long double quad; /* as many, on the machines that have no __float128 */
#endif

/* angle in radians, reduced to a few by a 2 pi of three doubles. */
static double reduced(quad angle) {
  const quad two_pi = (quad)6.283185307179586 + (quad)2.4492935982947064e-16 + (quad)-5.989539619436679e-33;
  int64_t turns = (int64_t)(double)(angle / two_pi);
  return (double)(angle - (quad)turns * two_pi);
}

static double worst(spindle__ref_offset offset, quad exact, double w) {
  double c, s, angle = reduced(exact * (quad)w);
  spindle__ref_cos_sin(offset, w, &c, &s);
  return fmax(fabs(c - cos(angle)), fabs(s - sin(angle)));
}

Test(reference_angles, integer_positions) {
  test_random r = test_random_start();
  for (int k = 0; k < 200000; k++) {
    int64_t position = test_random_log(&r, 1, (int64_t)1 << 40);
    if (test_random_once_in(&r, 4)) position = ((int64_t)1 << 40) - test_random_int(&r, 0, 1000);
    double w = pow(10000, -test_random_real(&r, 0, 1));
    double error = worst((spindle__ref_offset){(double)position, 0}, (quad)position, w);
    cr_assert(error < 1e-14, "position %lld, w %.17g: off by %g", (long long)position, w, error);
  }
}

/* Catches a relative position rounded to one double: thirds of 2^40 are then off by 1e-4. */
Test(reference_angles, leaky_fractions) {
  test_random r = test_random_start();
  for (int draw = 0; draw < 200000; draw++) {
    spindle_position p = {.remap = SPINDLE_REMAP_LEAKY_REROPE, .remap_window = test_random_log(&r, 1, 100000)};
    p.remap_k = test_random_once_in(&r, 2) ? 3 : test_random_real(&r, 0.1, 30);
    int64_t dist = p.remap_window + test_random_log(&r, 1, (int64_t)1 << 40) - 1;
    spindle__ref_offset offset;
    cr_assert(spindle__ref_relative(&p, false, dist + 1, dist, 0, &offset));
    quad exact = (quad)p.remap_window + (quad)(dist - p.remap_window) / (quad)p.remap_k;
    double w = pow(10000, -test_random_real(&r, 0, 1)), error = worst(offset, exact, w);
    cr_assert(error < 1e-12, "dist %lld, w %.17g, k %.17g: off by %g", (long long)dist, w, p.remap_k, error);
  }
}
