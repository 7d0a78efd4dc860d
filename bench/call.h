/* One attention call on tensors that lie in host memory as float32: device buffers of the right dtype and alignment, plan and
 * run, on a stream of its own. */
#ifndef SPINDLE_BENCH_CALL_H
#define SPINDLE_BENCH_CALL_H

#include "method.h"

enum { TOOL_MAX_BUFFERS = 20 };

/* Requests of equal lengths, dense. */
typedef struct tool_problem {
  int32_t requests, q_len, kv_len;
  int64_t q_index, kv_index, n;
} tool_problem;

typedef struct tool_call {
  spindle_context *context; /* borrowed */
  spindle_stream stream;
  spindle_shape shape;
  tool_problem problem;
  spindle_positions *positions;
  spindle_plan *plan;
  spindle_attention_args args;
  void *buffers[TOOL_MAX_BUFFERS];
  int32_t num_buffers;
} tool_call;

/* Ready to run, with unset tensors. schedule: SPINDLE_SCHEDULE_*. */
bool tool_call_open(tool_call *call, spindle_context *context, const tool_method *method, const spindle_shape *shape,
                    const tool_problem *problem, int32_t schedule);
enum { TOOL_Q, TOOL_K, TOOL_V };
/* q [requests][q_len][Hq][D], k and v [requests][kv_len][Hkv][D or Dv]: rounded to the shape's dtype. The tensor is there for
 * every stream when this returns. */
bool tool_call_load(tool_call *call, int32_t tensor, const float *data);
/* After the last run: Q, K and V make room for what is fetched. */
void tool_call_drop_inputs(tool_call *call);
/* Reads the tensors that `other`, of the same shape and problem, has loaded. */
void tool_call_borrow(tool_call *call, const tool_call *other);
/* In the order of the stream: the work may still go on when this returns. */
bool tool_call_run(tool_call *call);
/* After the run is done: o [requests][q_len][Hq][Dv], lse [requests][q_len][Hq]; either may be NULL. */
bool tool_call_fetch(tool_call *call, float *o, float *lse);
void tool_call_close(tool_call *call);

/* Names in the order of SPINDLE_BACKEND_AUTO, ...; NULL at the end. */
extern const char *const tool_backend_names[];
/* `name` NULL: auto. */
bool tool_context_open(spindle_context **context, const char *name, int32_t num_threads);
/* Does the backend serve tensors of this shape? false with nothing reported; spindle_last_error says why. */
bool tool_context_serves(spindle_context *context, const spindle_shape *shape);

#endif
