#include "random.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

test_random test_random_start(void) {
  const char *fixed = getenv("SPINDLE_TEST_SEED");
  test_random r = {0, 0};
  if (fixed) {
    r.seed = strtoull(fixed, NULL, 0);
  } else {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    r.seed = ((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec) ^ (uint64_t)getpid() << 40;
  }
  r.state = r.seed;
  fprintf(stderr, "SPINDLE_TEST_SEED=%" PRIu64 "\n", r.seed);
  return r;
}

/* splitmix64 (Vigna): any seed is as good as another. */
uint64_t test_random_u64(test_random *r) {
  uint64_t z = r->state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

int64_t test_random_int(test_random *r, int64_t lo, int64_t hi) {
  return lo + (int64_t)(test_random_u64(r) % ((uint64_t)(hi - lo) + 1));
}

double test_random_real(test_random *r, double lo, double hi) {
  return lo + (hi - lo) * ((double)(test_random_u64(r) >> 11) * 0x1p-53);
}

int64_t test_random_log(test_random *r, int64_t lo, int64_t hi) {
  double x = exp(test_random_real(r, log((double)lo), log((double)hi + 1.0)));
  int64_t n = (int64_t)x;
  return n < lo ? lo : n > hi ? hi : n;
}

double test_random_normal(test_random *r) {
  double radius = sqrt(-2.0 * log(1.0 - test_random_real(r, 0.0, 1.0)));
  return radius * cos(6.283185307179586 * test_random_real(r, 0.0, 1.0));
}

bool test_random_once_in(test_random *r, int times) { return test_random_int(r, 1, times) == 1; }

void test_random_permutation(test_random *r, int32_t *order, int32_t count) {
  for (int32_t i = 0; i < count; i++) order[i] = i;
  for (int32_t i = count - 1; i > 0; i--) {
    int32_t o = (int32_t)test_random_int(r, 0, i);
    int32_t swap = order[i];
    order[i] = order[o];
    order[o] = swap;
  }
}
