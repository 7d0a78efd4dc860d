/* The reference backend's numbers in memory, which every comparison with it stands on: all patterns of the small formats, and the
 * border between every two of them. */
#include <criterion/criterion.h>
#include <math.h>

#include "host/reference/reference.h"

typedef struct {
  int32_t dtype;
  uint32_t patterns; /* positive, finite */
  double largest;
} format;

static const format formats[] = {{SPINDLE_F16, 0x7c00, 65504}, {SPINDLE_BF16, 0x7f80, 0x1.fep127}, {SPINDLE_F8E4M3, 0x7f, 448}};

static double load(int32_t dtype, uint32_t pattern) {
  uint16_t wide = (uint16_t)pattern;
  uint8_t narrow = (uint8_t)pattern;
  return spindle__ref_load(dtype, dtype == SPINDLE_F8E4M3 ? (void *)&narrow : (void *)&wide, 0);
}

static uint32_t store(int32_t dtype, double value) {
  uint16_t wide = 0;
  uint8_t narrow = 0;
  spindle__ref_store(dtype, dtype == SPINDLE_F8E4M3 ? (void *)&narrow : (void *)&wide, 0, value);
  return dtype == SPINDLE_F8E4M3 ? narrow : wide;
}

/* Ascending values, each stored as itself; halfway to the next one goes to the even pattern, and a hair past it up. Catches
 * rounding by way of another format (twice), truncation, ties away from zero, and subnormal numbers flushed to 0. */
Test(reference_storage, rounds_to_nearest_even) {
  for (int f = 0; f < 3; f++) {
    int32_t dtype = formats[f].dtype;
    uint32_t sign = dtype == SPINDLE_F8E4M3 ? 0x80 : 0x8000;
    for (uint32_t x = 0; x < formats[f].patterns; x++) {
      double value = load(dtype, x);
      cr_assert_eq(store(dtype, value), x, "dtype %d: %g", dtype, value);
      cr_assert_eq(store(dtype, -value), x | sign);
      cr_assert_eq(load(dtype, x | sign), -value);
      if (x + 1 == formats[f].patterns) break;
      double next = load(dtype, x + 1), middle = value + (next - value) / 2;
      cr_assert(next > value);
      cr_assert_eq(store(dtype, middle), x + x % 2, "dtype %d: tie above %g", dtype, value);
      cr_assert_eq(store(dtype, nextafter(middle, INFINITY)), x + 1, "dtype %d: above the tie over %g", dtype, value);
      cr_assert_eq(store(dtype, nextafter(middle, 0)), x, "dtype %d: below the tie over %g", dtype, value);
    }
    cr_expect_eq(load(dtype, formats[f].patterns - 1), formats[f].largest);
  }
}

/* Known patterns, so that load and store cannot be wrong together. */
Test(reference_storage, known_patterns) {
  cr_expect_eq(store(SPINDLE_F16, 1), 0x3c00);
  cr_expect_eq(store(SPINDLE_F16, -2), 0xc000);
  cr_expect_eq(store(SPINDLE_F16, 0x1p-24), 1);
  cr_expect_eq(store(SPINDLE_BF16, 1), 0x3f80);
  cr_expect_eq(store(SPINDLE_BF16, 0x1p-133), 1);
  cr_expect_eq(store(SPINDLE_F8E4M3, 1), 0x38);
  cr_expect_eq(store(SPINDLE_F8E4M3, 0x1p-9), 1);
  cr_expect_eq(store(SPINDLE_F8E4M3, -448), 0xfe);
}

/* f16 and bf16 overflow to infinity as IEEE 754 does, e4m3 saturates: catches an infinity in it, which it reads back as NaN. */
Test(reference_storage, too_large) {
  cr_expect_eq(store(SPINDLE_F16, 65519.99), 0x7bff);
  cr_expect_eq(store(SPINDLE_F16, 65520), 0x7c00);
  cr_expect_eq(store(SPINDLE_F16, -1e300), 0xfc00);
  cr_expect_eq(store(SPINDLE_BF16, INFINITY), 0x7f80);
  cr_expect(isinf(load(SPINDLE_BF16, 0xff80)));
  const double large[] = {449, 464, 480, 1e6, 1e300, INFINITY};
  for (int k = 0; k < 6; k++) {
    cr_expect_eq(store(SPINDLE_F8E4M3, large[k]), 0x7e, "%g", large[k]);
    cr_expect_eq(store(SPINDLE_F8E4M3, -large[k]), 0xfe, "%g", -large[k]);
  }
  for (int f = 0; f < 3; f++) cr_expect(isnan(load(formats[f].dtype, store(formats[f].dtype, NAN))));
}
