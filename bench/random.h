/* Reproducible numbers for test tensors. */
#ifndef SPINDLE_BENCH_RANDOM_H
#define SPINDLE_BENCH_RANDOM_H

#include <stdint.h>

typedef struct tool_random {
  uint64_t state;
} tool_random;

uint64_t tool_random_u64(tool_random *r);
/* Close to normal: mean 0, the deviation given, within 3.5 deviations. */
void tool_random_fill(tool_random *r, float *out, int64_t count, double deviation);
/* A seed that no other run had. */
uint64_t tool_random_seed(void);

#endif
