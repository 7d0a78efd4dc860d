/* Random numbers for tests. Every run draws a fresh seed and prints it; SPINDLE_TEST_SEED=<number> repeats a run. */
#ifndef SPINDLE_TESTS_SUPPORT_RANDOM_H
#define SPINDLE_TESTS_SUPPORT_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct test_random {
  uint64_t state;
  uint64_t seed; /* for messages */
} test_random;

/* The environment's seed, or a fresh one; said on stderr. */
test_random test_random_start(void);

uint64_t test_random_u64(test_random *r);
/* Uniform in [lo, hi], both included. */
int64_t test_random_int(test_random *r, int64_t lo, int64_t hi);
/* In [lo, hi], lo >= 1: small numbers as likely as large ones. */
int64_t test_random_log(test_random *r, int64_t lo, int64_t hi);
/* Uniform in [lo, hi). */
double test_random_real(test_random *r, double lo, double hi);
double test_random_normal(test_random *r);
/* True once in `times`. */
bool test_random_once_in(test_random *r, int times);
/* order[0..count): a permutation of 0..count-1. */
void test_random_permutation(test_random *r, int32_t *order, int32_t count);

#endif
