/* A method's time, measured in turn with plain RoPE's on the same tensors, so that drift of the machine cancels in the ratio; and
 * a copy's, which says what the memory gives. */
#ifndef SPINDLE_BENCH_TIMING_H
#define SPINDLE_BENCH_TIMING_H

#include "call.h"

/* What empties the cache of a GPU before every call: a copy between two buffers that together are larger, and then reads alone,
 * so that the call does not pay for writing back what the copy left. It also keeps the GPU busy while the host enqueues the call,
 * so that no launch is timed that a busy stream would hide. */
typedef struct tool_flush {
  spindle_context *context;
  void *from, *to;
  size_t bytes; /* of each buffer; 0: calls are timed back to back, in warm caches */
} tool_flush;

/* bytes: of both buffers together. */
bool tool_flush_open(tool_flush *flush, spindle_context *context, size_t bytes);
void tool_flush_close(tool_flush *flush);

typedef struct tool_timing {
  int32_t rounds;
  double median_s, min_s, max_s; /* of one call of the method */
  double ratio;                  /* median over the rounds of method / plain in that round */
  double ratio_to_rotated;       /* likewise of method / plain on rotated keys; NaN where that was not timed */
  double visible_pairs;          /* (query row, key) of one head, mean over heads and requests; counted on at most 256 rows of a
                                    request, evenly spaced */
  double flops;                  /* 2 (D + Dv) visible_pairs Hq requests: the two products, 4 D where D = Dv */
  double bytes;                  /* Q, O, LSE and the K and V that any row sees, each once */
} tool_timing;

/* The calls are open and read the same tensors. `rotated`: plain RoPE that takes the keys to be rotated already, NULL: not timed.
 */
bool tool_time(tool_call *plain, tool_call *rotated, tool_call *call, const tool_method *method, const tool_flush *flush,
               tool_timing *timing);

/* Bytes read and bytes written, together, by a second of copying `bytes` bytes; the median of as many rounds. */
bool tool_time_copy(void *to, const void *from, size_t bytes, const tool_flush *flush, double *bytes_per_s);

#endif
