/* Attention of a device on 16-bit tensors against the float64 reference, within bounds that follow from the data. */
#ifndef SPINDLE_TESTS_SUPPORT_HALVES_H
#define SPINDLE_TESTS_SUPPORT_HALVES_H

#include "attend.h"

/* Runs the requests as the setup says, which names the backend, and, with copies of them, on the reference. Fails the test where
 * O or LSE are off by more than test_halves_bound, or O's root mean square error is an eighth of its bound. */
void test_halves(const char *what, const test_setup *setup, test_request *requests, int32_t count);
/* The comparison alone. want: what the reference makes of the same data. */
void test_halves_close(const char *what, const test_setup *setup, const test_request *got, const test_request *want);

/* Of any element of O, before it is rounded to its type, and of LSE, but for a few roundings of its own. */
typedef struct test_bound {
  double o, lse;
} test_bound;
test_bound test_halves_bound(const test_setup *setup, const test_request *request);

#endif
