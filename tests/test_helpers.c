/* ALiBi slopes, absolute position tables and scaling laws: printed numbers, and arguments that must be refused. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include <spindle/spindle.h>

#include "support/numbers.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))

static void expect_list(const float *got, const double *printed, size_t count) {
  for (size_t k = 0; k < count; k++)
    cr_expect(fabs(got[k] - printed[k]) <= test_printed_tolerance(printed[k], 6) + 6e-8 * fabs(printed[k]),
              "[%zu] is %.9g, printed %g", k, got[k], printed[k]);
}

#define EXPECT_LIST(got, ...)                    \
  do {                                           \
    const double printed[] = {__VA_ARGS__};      \
    expect_list((got), printed, COUNT(printed)); \
  } while (0)

/* Refused, with a message that names the argument. */
#define EXPECT_REFUSED(call, name)                                                                              \
  do {                                                                                                          \
    cr_expect_eq((call), SPINDLE_INVALID_ARGUMENT, "accepted: %s", #call);                                      \
    cr_expect(strstr(spindle_last_error(), name) != NULL, "'%s' does not name %s", spindle_last_error(), name); \
  } while (0)

/* ---- ALiBi ---- */

/* Catches h from 0 in the exponent, and slopes that are sorted where the paper appends. */
Test(helpers, alibi_slopes) {
  float s[16];
  cr_assert_eq(spindle_alibi_slopes(8, 0, 0, 0, s), SPINDLE_OK);
  EXPECT_LIST(s, .5, .25, .125, .0625, .03125, .015625, .0078125, .00390625);
  cr_assert_eq(spindle_alibi_slopes(6, 0, 0, 0, s), SPINDLE_OK);
  EXPECT_LIST(s, .25, .0625, .015625, .00390625, .5, .125);
  cr_assert_eq(spindle_alibi_slopes(12, 8, 0, 0, s), SPINDLE_OK);
  EXPECT_LIST(s, .5, .25, .125, .0625, .03125, .015625, .0078125, .00390625, .707107, .353553, .176777, .0883883);
  cr_assert_eq(spindle_alibi_slopes(1, 0, 0, 0, s), SPINDLE_OK);
  EXPECT_LIST(s, .00390625);
}

/* Catches a factor that multiplies, and NTK's exponent over H instead of H - 1. */
Test(helpers, alibi_extended) {
  float s[16];
  cr_assert_eq(spindle_alibi_slopes(8, 0, 2, 0, s), SPINDLE_OK);
  EXPECT_LIST(s, .25, .125, .0625, .03125, .015625, .0078125, .00390625, .001953125);
  cr_assert_eq(spindle_alibi_slopes(8, 0, 0, 2, s), SPINDLE_OK);
  EXPECT_LIST(s, .5, .226431, .102542, .0464373, .0210297, .00952354, .00431285, .00195312);
  cr_assert_eq(spindle_alibi_slopes(1, 0, 0, 2, s), SPINDLE_OK); /* 0 / 0 in the exponent */
  EXPECT_LIST(s, .00390625);
}

/* MPT's formula, for every head count it can be asked for: slopes of the next power of two, odd ones first, then even ones.
 * Catches counts whose largest power of two is off by one, and a bias_max that only the first slopes see. */
Test(helpers, alibi_slopes_are_mpt_s) {
  static const double bias_max[] = {8, 16, 3};
  for (size_t b = 0; b < COUNT(bias_max); b++)
    for (int32_t heads = 1; heads <= 130; heads++) {
      int32_t power = 1, filled = 0;
      while (power < heads) power *= 2;
      float s[130], mpt[260];
      for (int32_t k = 2; k <= power; k += 2) mpt[filled++] = (float)pow(2, -bias_max[b] * k / power);
      for (int32_t k = 1; k <= power; k += 2) mpt[filled++] = (float)pow(2, -bias_max[b] * k / power);
      if (power == heads)
        for (int32_t k = 0; k < heads; k++) mpt[k] = (float)pow(2, -bias_max[b] * (k + 1) / power);
      cr_assert_eq(spindle_alibi_slopes(heads, bias_max[b], 0, 0, s), SPINDLE_OK);
      for (int32_t h = 0; h < heads; h++)
        cr_expect_float_eq(s[h] / mpt[h], 1, 1e-6, "heads %d, bias_max %g, head %d: %g, MPT %g", heads, bias_max[b], h, s[h],
                           mpt[h]);
    }
}

Test(helpers, alibi_refuses) {
  float s[8];
  EXPECT_REFUSED(spindle_alibi_slopes(0, 0, 0, 0, s), "num_heads is 0");
  EXPECT_REFUSED(spindle_alibi_slopes(4097, 0, 0, 0, s), "num_heads is 4097");
  EXPECT_REFUSED(spindle_alibi_slopes(8, -1, 0, 0, s), "bias_max is -1");
  EXPECT_REFUSED(spindle_alibi_slopes(8, 0, NAN, 0, s), "factor");
  EXPECT_REFUSED(spindle_alibi_slopes(8, 0, 0, INFINITY, s), "alpha");
  EXPECT_REFUSED(spindle_alibi_slopes(8, 0, 0, 0, NULL), "slopes");
}

/* ---- Absolute position tables ---- */

/* Catches one layout standing for the other: they differ in the exponent, too. */
Test(helpers, sinusoidal) {
  float e[9];
  cr_assert_eq(spindle_sinusoidal(SPINDLE_SINUSOIDAL_PAPER, 8, 3, 1, e), SPINDLE_OK);
  EXPECT_LIST(e, 0.14112, -0.989992, 0.29552, 0.955336, 0.0299955, 0.99955, 0.003, 0.999996);
  cr_assert_eq(spindle_sinusoidal(SPINDLE_SINUSOIDAL_FAIRSEQ, 8, 3, 1, e), SPINDLE_OK);
  EXPECT_LIST(e, 0.14112, 0.138798, 0.00646326, 0.0003, -0.989992, 0.990321, 0.999979, 1);
  cr_assert_eq(spindle_sinusoidal(SPINDLE_SINUSOIDAL_FAIRSEQ, 9, 3, 1, e), SPINDLE_OK);
  EXPECT_LIST(e, 0.14112, 0.138798, 0.00646326, 0.0003, -0.989992, 0.990321, 0.999979, 1, 0);
}

/* Rows are those of a table from 0: catches positions counted from the first row. */
Test(helpers, sinusoidal_from_the_middle) {
  float whole[64 * 16], part[4 * 16];
  for (int32_t layout = SPINDLE_SINUSOIDAL_PAPER; layout <= SPINDLE_SINUSOIDAL_FAIRSEQ; layout++) {
    cr_assert_eq(spindle_sinusoidal(layout, 16, 0, 64, whole), SPINDLE_OK);
    cr_assert_eq(spindle_sinusoidal(layout, 16, 60, 4, part), SPINDLE_OK);
    cr_expect_arr_eq(part, whole + 60 * 16, sizeof part);
  }
  cr_expect_eq(spindle_sinusoidal(SPINDLE_SINUSOIDAL_PAPER, 16, 5, 0, NULL), SPINDLE_OK);
}

Test(helpers, sinusoidal_refuses) {
  float e[8];
  EXPECT_REFUSED(spindle_sinusoidal(2, 8, 0, 1, e), "layout is 2");
  EXPECT_REFUSED(spindle_sinusoidal(SPINDLE_SINUSOIDAL_PAPER, 7, 0, 1, e), "dim is 7");
  EXPECT_REFUSED(spindle_sinusoidal(SPINDLE_SINUSOIDAL_PAPER, 0, 0, 1, e), "dim is 0");
  EXPECT_REFUSED(spindle_sinusoidal(SPINDLE_SINUSOIDAL_FAIRSEQ, 3, 0, 1, e), "dim is 3"); /* divides by dim / 2 - 1 */
  EXPECT_REFUSED(spindle_sinusoidal(SPINDLE_SINUSOIDAL_PAPER, 8, -1, 1, e), "begin is -1");
  EXPECT_REFUSED(spindle_sinusoidal(SPINDLE_SINUSOIDAL_PAPER, 8, 0, -1, e), "count is -1");
  EXPECT_REFUSED(spindle_sinusoidal(SPINDLE_SINUSOIDAL_PAPER, 8, 1, (int64_t)1 << 40, e), "count");
  EXPECT_REFUSED(spindle_sinusoidal(SPINDLE_SINUSOIDAL_PAPER, 8, 0, 1, NULL), "out");
}

/* Catches the blog's 1-based index, u without the division by 1 - alpha, and alpha on the low digit. */
Test(helpers, hierarchical) {
  const float table[] = {1, 2, 3, 4};
  float e[16];
  cr_assert_eq(spindle_hierarchical(table, 4, 1, 0, 16, e), SPINDLE_OK);
  EXPECT_LIST(e, 1, 2, 3, 4, 1.66667, 2.66667, 3.66667, 4.66667, 2.33333, 3.33333, 4.33333, 5.33333, 3, 4, 5, 6);
  const float channels[] = {1, 10, 2, 20, 3, 30, 4, 40};
  cr_assert_eq(spindle_hierarchical(channels, 4, 2, 0.4, 6, e), SPINDLE_OK);
  EXPECT_LIST(e, 1, 10, 2, 20, 3, 30, 4, 40, 1.66667, 16.6667, 2.66667, 26.6667);
}

Test(helpers, hierarchical_refuses) {
  const float table[4] = {0};
  float e[17];
  EXPECT_REFUSED(spindle_hierarchical(NULL, 4, 1, 0, 16, e), "table");
  EXPECT_REFUSED(spindle_hierarchical(table, 0, 1, 0, 0, e), "length is 0");
  EXPECT_REFUSED(spindle_hierarchical(table, 4, 0, 0, 16, e), "dim is 0");
  EXPECT_REFUSED(spindle_hierarchical(table, 4, 1, 0.5, 16, e), "alpha is 0.5"); /* (x, y) and (y, x) collide */
  EXPECT_REFUSED(spindle_hierarchical(table, 4, 1, 1, 16, e), "alpha is 1");
  EXPECT_REFUSED(spindle_hierarchical(table, 4, 1, NAN, 16, e), "alpha");
  EXPECT_REFUSED(spindle_hierarchical(table, 4, 1, 0, 17, e), "count is 17");
  EXPECT_REFUSED(spindle_hierarchical(table, 4, 1, 0, 16, NULL), "out");
}

/* ---- Scaling laws ---- */

static spindle_rope_extension extension(double tune_theta, double tune_length) {
  spindle_rope_extension e = {.struct_size = sizeof e};
  cr_assert_eq(spindle_rope_max_extension(128, 10000, 4096, tune_theta, tune_length, &e), SPINDLE_OK, "%s", spindle_last_error());
  return e;
}

/* Llama 2: catches log10 for log_theta, and the ceiling taken before the doubling. */
Test(helpers, rope_max_extension) {
  static const double printed[][2] = {{2e4, 7754}, {4e4, 12762}, {1e5, 24656}, {1e6, 129027}};
  for (size_t k = 0; k < COUNT(printed); k++) {
    spindle_rope_extension e = extension(printed[k][0], 4096);
    cr_expect_eq(e.critical_dimension, 92);
    cr_expect_float_eq(e.critical_base, 10000, 1e-6);
    cr_expect_float_eq(e.max_length, printed[k][1], 0.5001, "base %g: %.9g, printed %g", printed[k][0], e.max_length,
                       printed[k][1]);
  }
}

/* Below the critical base the bound is the length of the tuning itself: catches the power law used there. */
Test(helpers, rope_max_extension_below_the_critical_base) {
  spindle_rope_extension e = extension(50000, 16384);
  cr_expect(test_as_printed(e.critical_base, 71738.44, 7), "%.9g", e.critical_base);
  cr_expect_eq(e.max_length, 16384);
  e = extension(500, 4096);
  cr_expect_eq(e.max_length, 4096);
  cr_assert_eq(spindle_rope_max_extension(128, 500, 4096, 500, 4096, &e), SPINDLE_OK);
  cr_expect_eq(e.critical_dimension, 128, "134 by the formula, of which there are 128");
}

Test(helpers, rope_max_extension_refuses) {
  spindle_rope_extension e = {.struct_size = sizeof e};
  EXPECT_REFUSED(spindle_rope_max_extension(0, 10000, 4096, 10000, 4096, &e), "rotary_dim is 0");
  EXPECT_REFUSED(spindle_rope_max_extension(127, 10000, 4096, 10000, 4096, &e), "rotary_dim is 127");
  EXPECT_REFUSED(spindle_rope_max_extension(128, 1, 4096, 10000, 4096, &e), "theta is 1");
  EXPECT_REFUSED(spindle_rope_max_extension(128, 10000, 6, 10000, 4096, &e), "train_length is 6");
  EXPECT_REFUSED(spindle_rope_max_extension(128, 10000, 4096, NAN, 4096, &e), "tune_theta");
  EXPECT_REFUSED(spindle_rope_max_extension(128, 10000, 4096, 10000, INFINITY, &e), "tune_length");
  EXPECT_REFUSED(spindle_rope_max_extension(128, 10000, 4096, 10000, 4096, NULL), "extension");
  e.struct_size = sizeof e + 8;
  EXPECT_REFUSED(spindle_rope_max_extension(128, 10000, 4096, 10000, 4096, &e), "struct_size");
}
