/* Exact phases and canonical (cos, sin), against 113-bit arithmetic: cos(position * w) in double is itself off by 3.5e-5 at 2^40.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/rope/rope.h"
#include "support/random.h"

__extension__ typedef __float128 quad;
__extension__ typedef __int128 int128;

static quad two_pi(void) { return (quad)6.283185307179586 + (quad)2.4492935982947064e-16 + (quad)-5.989539619436679e-33; }

/* In [0, 1): x turns without the whole ones. |x| < 2^100. */
static quad fraction(quad x) {
  quad f = x - (quad)(int128)x;
  return f < 0 ? f + 1 : f;
}

/* Turns of position `numerator / k` at w radians per token. numerator * w is exact in 113 bits. */
static quad turns_at(int64_t numerator, double k, double w) { return fraction((quad)numerator * (quad)w / ((quad)k * two_pi())); }

static double cos_error(quad turns, float c, float s) {
  long double angle = 6.283185307179586476925286766559L * (long double)turns;
  return fmax((double)fabsl(cosl(angle) - (long double)c), (double)fabsl(sinl(angle) - (long double)s));
}

/* Frequencies that models use, and those that only a table can hold. */
static double draw_frequency(test_random *r) {
  double w = exp(test_random_real(r, log(1e-9), 0.0));
  switch (test_random_int(r, 0, 7)) {
    case 0: return -w;
    case 1: return 1e-12 * w;
    case 2: return test_random_real(r, 1.0, 1000.0);
    case 3: return 1.0;
    case 4: return pow(test_random_real(r, 1e4, 1e7), -2.0 * (double)test_random_int(r, 0, 63) / 128.0);
    default: return w;
  }
}

Test(phase, step_is_the_nearest_integer) {
  test_random r = test_random_start();
  for (int round = 0; round < 2000000; round++) {
    double w = draw_frequency(&r), k = test_random_once_in(&r, 2) ? 1.0 : test_random_real(&r, 0.01, 100.0);
    quad exact = fraction((quad)fabs(w) / ((quad)k * two_pi())) * (quad)0x1p64;
    uint64_t step = spindle__phase_step(w, k), got = w < 0 ? 0 - step : step;
    quad off = (quad)got - exact; /* an exact value just under a whole turn rounds to 0 */
    if (off < (quad)-0x1p63) off += (quad)0x1p64;
    cr_assert(off <= (quad)0.500001 && off >= (quad)-0.500001, "w %.17g, k %.17g: off by %g units", w, k, (double)off);
  }
}

Test(phase, steps_of_zero_and_whole_turns) {
  cr_assert_eq(spindle__phase_step(0.0, 1.0), 0);
  cr_assert_eq(spindle__phase_step(-0.0, 3.0), 0);
  for (double w = 1e-12; w < 1e5; w *= 3.7)
    cr_assert_eq(spindle__phase_step(-w, 1.0) + spindle__phase_step(w, 1.0), 0, "w %g", w);
}

/* The promise of the library: 1e-6 at any position. */
Test(phase, cos_and_sin_are_within_1e_6_up_to_2_40) {
  test_random r = test_random_start();
  double worst = 0;
  for (int round = 0; round < 3000000; round++) {
    double w = draw_frequency(&r);
    int64_t position =
        round % 2 ? test_random_int(&r, 0, ((int64_t)1 << 40) - 1) : test_random_log(&r, 1, ((int64_t)1 << 40) - 1) - 1;
    float c, s;
    spindle__canonical_cos_sin(position, spindle__phase_step(w, 1.0), 0, &c, &s);
    double error = cos_error(turns_at(position, 1.0, w), c, s);
    cr_assert_lt(error, 1e-6, "w %.17g at position %" PRId64 ": off by %g", w, position, error);
    worst = fmax(worst, error);
  }
  fprintf(stderr, "worst error of cos and sin: %.2g\n", worst);
  cr_assert_lt(worst, 8e-7, "the margin below 1e-6 is gone: %g", worst); /* measured 5.5e-7; a step rounded twice gave 9.8e-7 */
}

/* A row before the first token (a batch may place one there) turns backwards. */
Test(phase, negative_positions_mirror_positive_ones) {
  test_random r = test_random_start();
  for (int round = 0; round < 100000; round++) {
    double w = draw_frequency(&r);
    int64_t position = -test_random_log(&r, 1, 1 << 30);
    float c, s;
    spindle__canonical_cos_sin(position, spindle__phase_step(w, 1.0), 0, &c, &s);
    double error = cos_error(turns_at(position, 1.0, w), c, s);
    cr_assert_lt(error, 1e-6, "w %.17g at position %" PRId64 ": off by %g", w, position, error);
  }
}

static spindle__resolved leaky(double k, int64_t window, double theta) {
  static spindle__slot slot;
  static spindle__resolved resolved;
  memset(&slot, 0, sizeof slot);
  slot.position.rope = SPINDLE_ROPE_DEFAULT;
  slot.position.rope_theta = theta;
  slot.position.remap = SPINDLE_REMAP_LEAKY_REROPE;
  slot.position.remap_k = k;
  slot.position.remap_window = window;
  spindle__resolve(&slot, 128, 1, &resolved);
  return resolved;
}

/* Beyond the window position x sits at (x + w (k - 1)) / k for a query and x / k for a key. */
Test(phase, fractional_positions_are_exact_to_ten_million) {
  test_random r = test_random_start();
  const double factors[] = {3.0, 16.0, 7.5, 1.0 / 3.0, 1.0 / 16.0};
  for (int round = 0; round < 300; round++) {
    double k = factors[round % 5], theta = test_random_real(&r, 1e4, 1e6);
    int64_t window = test_random_log(&r, 1, 4096);
    spindle__resolved at = leaky(k, window, theta);
    for (int32_t t = 0; t < at.num_pairs; t++) {
      double w = pow(theta, -2.0 * t / 128);
      int64_t x = test_random_int(&r, 0, 10000000);
      float c, s;
      spindle__canonical_cos_sin(x, at.scaled_step[t], 0, &c, &s);
      cr_assert_lt(cos_error(turns_at(x, k, w), c, s), 1e-6, "key at %" PRId64 " / %g, w %.17g", x, k, w);
      spindle__canonical_cos_sin(x, at.scaled_step[t], at.scaled_offset[t], &c, &s);
      quad turns = fraction(((quad)x + (quad)window * ((quad)k - 1)) * (quad)w / ((quad)k * two_pi()));
      cr_assert_lt(cos_error(turns, c, s), 1e-6, "query at (%" PRId64 " + %" PRId64 " (k - 1)) / %g, w %.17g", x, window, k, w);
    }
  }
}

Test(phase, near_and_far_meet_exactly_at_the_window) {
  const double factors[] = {3.0, 16.0, 0.3, 2.5};
  for (int f = 0; f < 4; f++)
    for (int64_t window = 1; window < 100000; window = window * 3 + 1) {
      spindle__resolved at = leaky(factors[f], window, 10000.0);
      for (int32_t t = 0; t < at.num_pairs; t++)
        for (int64_t j = 0; j < (int64_t)1 << 39; j = j * 5 + 3) {
          uint64_t far = (uint64_t)(j + window) * at.scaled_step[t] + at.scaled_offset[t] - (uint64_t)j * at.scaled_step[t];
          cr_assert_eq(far, (uint64_t)window * at.step[t], "k %g, window %" PRId64 ", pair %d, key %" PRId64, factors[f], window,
                       t, j);
        }
    }
}

Test(phase, cos_and_sin_of_a_phase_are_within_1_3e_7) {
  test_random r = test_random_start();
  double worst = 0;
  for (int64_t round = 0; round < 4000000; round++) {
    /* around every eighth of a turn, where branches meet, and anywhere */
    uint64_t phase = round % 2 ? test_random_u64(&r)
                               : ((uint64_t)test_random_int(&r, 0, 15) << 60) +
                                     (uint64_t)test_random_int(&r, -(INT64_C(1) << 40), INT64_C(1) << 40);
    float c, s;
    spindle__phase_cos_sin(phase, &c, &s);
    worst = fmax(worst, cos_error((quad)phase / (quad)0x1p64, c, s));
  }
  fprintf(stderr, "worst error of one phase's cos and sin: %.2g\n", worst);
  cr_assert_leq(worst, 1.3e-7);
}

/* The bits of (cos, sin) may depend on the position's distance from its multiple of 8 and on nothing else: start anywhere, get
 * the same. */
Test(phase, canonical_bits_follow_from_the_position_alone) {
  test_random r = test_random_start();
  for (int round = 0; round < 200000; round++) {
    uint64_t step = test_random_u64(&r), offset = test_random_once_in(&r, 2) ? 0 : test_random_u64(&r);
    int64_t position = test_random_int(&r, 0, ((int64_t)1 << 40) - 1);
    float c, s, c_moved, s_moved, c_exact, s_exact;
    spindle__canonical_cos_sin(position, step, offset, &c, &s);
    int64_t moved = 8 * test_random_int(&r, 0, (int64_t)1 << 36); /* the same phase, counted from another origin */
    spindle__canonical_cos_sin(position + moved, step, offset - (uint64_t)moved * step, &c_moved, &s_moved);
    cr_assert(c == c_moved && s == s_moved);
    spindle__canonical_cos_sin(position & ~(int64_t)7, step, offset, &c, &s);
    spindle__phase_cos_sin((uint64_t)(position & ~(int64_t)7) * step + offset, &c_exact, &s_exact);
    cr_assert(c == c_exact && s == s_exact, "a multiple of 8 is not exact");
  }
}
