/* Comparing with numbers as papers print them: right to the last of their `digits` significant digits. */
#ifndef SPINDLE_TESTS_SUPPORT_NUMBERS_H
#define SPINDLE_TESTS_SUPPORT_NUMBERS_H

#include <math.h>
#include <stdbool.h>

/* Half a unit of the last printed digit, and a hair for the decimal number's own rounding. */
static inline double test_printed_tolerance(double printed, int digits) {
  if (printed == 0) return 1e-12;
  return 0.5001 * pow(10, floor(log10(fabs(printed))) + 1 - digits);
}

static inline bool test_as_printed(double got, double printed, int digits) {
  return fabs(got - printed) <= test_printed_tolerance(printed, digits);
}

#endif
