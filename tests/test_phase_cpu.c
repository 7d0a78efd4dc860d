/* The vectorised phases of the cpu backend, in every instruction set that this machine has: within the library's promise, and the
 * same bits wherever a run of rows begins. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/cpu/kernels.h"
#include "kernels/rope/phase.h"
#include "support/random.h"

enum { ROWS = 40, PAIRS = 32 };

static const spindle__cpu_kernels *const tables[] = {
    &spindle__cpu_kernels_portable,
#if defined(__x86_64__)
    &spindle__cpu_kernels_avx2,
    &spindle__cpu_kernels_avx512,
#endif
};

/* Runs of rows, jumps, runs that go back, and repetitions. */
static void draw_rows(test_random *r, int64_t *m) {
  int64_t at = test_random_log(r, 1, (int64_t)1 << 39);
  for (int i = 0; i < ROWS; i++) {
    m[i] = at;
    at += test_random_once_in(r, 8) ? test_random_int(r, -at, 1000) : test_random_int(r, 0, 2);
  }
}

static void draw_steps(test_random *r, uint64_t *step, uint64_t *offset) {
  for (int t = 0; t < PAIRS; t++) {
    step[t] = spindle__phase_step(exp(test_random_real(r, log(1e-9), 0)), 1);
    offset[t] = test_random_u64(r);
  }
}

Test(phase_cpu, bits_depend_on_the_position_alone) {
  test_random r = test_random_start();
  for (size_t k = 0; k < sizeof tables / sizeof *tables; k++) {
    if (!tables[k]->supported()) continue;
    for (int round = 0; round < 500; round++) {
      int64_t m[ROWS];
      uint64_t step[PAIRS], offset[PAIRS];
      double rate[PAIRS];
      _Alignas(64) float c[2][ROWS * PAIRS], s[2][ROWS * PAIRS];
      const uint64_t *maybe = round % 2 ? offset : NULL;
      draw_rows(&r, m);
      draw_steps(&r, step, offset);
      for (int t = 0; t < PAIRS; t++) rate[t] = test_random_real(&r, -1e-3, 1e-3);
      tables[k]->cos_sin(m, ROWS, step, maybe, PAIRS, c[0], s[0]);
      for (int i = 0; i < ROWS; i++) tables[k]->cos_sin(m + i, 1, step, maybe, PAIRS, c[1] + i * PAIRS, s[1] + i * PAIRS);
      cr_assert(!memcmp(c[0], c[1], sizeof c[0]) && !memcmp(s[0], s[1], sizeof s[0]), "%s", tables[k]->name);
      for (int i = 0; i < ROWS; i++) m[i] = m[i] % 100000 - 50000; /* xPos: distances from a centre */
      tables[k]->decay(m, ROWS, rate, PAIRS, c[0], s[0]);
      for (int i = 0; i < ROWS; i++) tables[k]->decay(m + i, 1, rate, PAIRS, c[1] + i * PAIRS, s[1] + i * PAIRS);
      cr_assert(!memcmp(c[0], c[1], sizeof c[0]) && !memcmp(s[0], s[1], sizeof s[0]), "decay, %s", tables[k]->name);
    }
  }
}

/* Against the phase as an integer, which test_phase checks against 113-bit arithmetic: 1e-6 less the 1.9e-7 that its step may be
 * off by at 2^40. */
Test(phase_cpu, cos_and_sin_are_within_their_promise) {
  test_random r = test_random_start();
  for (size_t k = 0; k < sizeof tables / sizeof *tables; k++) {
    double worst = 0;
    if (!tables[k]->supported()) continue;
    for (int round = 0; round < 500; round++) {
      int64_t m[ROWS];
      uint64_t step[PAIRS], offset[PAIRS];
      _Alignas(64) float c[ROWS * PAIRS], s[ROWS * PAIRS];
      draw_rows(&r, m);
      draw_steps(&r, step, offset);
      tables[k]->cos_sin(m, ROWS, step, offset, PAIRS, c, s);
      for (int x = 0; x < ROWS * PAIRS; x++) {
        long double angle = 6.283185307179586476925286766559L * 0x1p-64L *
                            (long double)((uint64_t)m[x / PAIRS] * step[x % PAIRS] + offset[x % PAIRS]);
        worst = fmax(worst, fmax((double)fabsl(cosl(angle) - (long double)c[x]), (double)fabsl(sinl(angle) - (long double)s[x])));
      }
    }
    fprintf(stderr, "%s: worst error %.2g\n", tables[k]->name, worst);
    cr_assert_lt(worst, 6.5e-7, "%s: %g", tables[k]->name, worst);
  }
}
