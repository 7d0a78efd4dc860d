/* What the papers say about one (query, key) pair: whether it is seen, and at which position difference.
 *
 * Written from the methods' definitions, one `if` per sentence, and shares nothing with the library: it is what the segments are
 * checked against. */
#ifndef SPINDLE_TESTS_SUPPORT_PAIRS_H
#define SPINDLE_TESTS_SUPPORT_PAIRS_H

#include <stdbool.h>
#include <stdint.h>

#include <spindle/spindle.h>

/* Positions as exact fractions: k of Leaky ReRoPE is k_num / k_den, and differences are given times k_num. */
typedef struct test_method {
  spindle_position position;
  int64_t k_num, k_den;
  int64_t n;
  bool shifted; /* a head of the second half, under S2 */
} test_method;

bool test_pair_visible(const test_method *m, int64_t i, int64_t j);
/* k_num times the position difference at which row i scores key j, which it sees. */
int64_t test_pair_relative(const test_method *m, int64_t i, int64_t j);

#endif
