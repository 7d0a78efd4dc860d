/* One problem on two backends, random inputs, and how far apart the results may be. */
#ifndef SPINDLE_BENCH_COMPARE_H
#define SPINDLE_BENCH_COMPARE_H

#include "call.h"

/* The largest |difference| and its bound, of O and of LSE. */
typedef struct tool_difference {
  double o, o_tolerance;
  double lse, lse_tolerance;
} tool_difference;

/* Of the larger of the two, relative to its bound: above 1 is a miss. */
double tool_difference_ratio(const tool_difference *d);

/* schedule: SPINDLE_SCHEDULE_* of the tested one. false: the call failed, which has been reported. */
bool tool_compare(spindle_context *tested, spindle_context *reference, const tool_method *method, const spindle_shape *shape,
                  const tool_problem *problem, int32_t schedule, uint64_t seed, tool_difference *difference);

#endif
