/* A method's time, measured in turn with plain RoPE's on the same tensors, so that drift of the machine cancels in the ratio. */
#ifndef SPINDLE_BENCH_TIMING_H
#define SPINDLE_BENCH_TIMING_H

#include "call.h"

typedef struct tool_timing {
  int32_t rounds;
  double median_s, min_s, max_s; /* of one call of the method */
  double ratio;                  /* median over the rounds of method / plain in that round */
  double visible_pairs;          /* (query row, key) of one head, mean over heads; counted on at most 256 rows, evenly spaced */
  double flops;                  /* 2 (D + Dv) visible_pairs Hq requests: the two products, 4 D where D = Dv */
} tool_timing;

/* Both calls are open and read the same tensors. */
bool tool_time(tool_call *plain, tool_call *call, const tool_method *method, tool_timing *timing);

#endif
