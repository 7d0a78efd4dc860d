/* One attention call on tensors that lie in host memory as float32, or are drawn: device buffers of the right dtype and
 * alignment, plan and run, on a stream of its own. */
#ifndef SPINDLE_BENCH_CALL_H
#define SPINDLE_BENCH_CALL_H

#include "method.h"
#include "random.h"

enum { TOOL_MAX_BUFFERS = 20 };

/* Requests of equal lengths; or one of kv_len keys beside shorter ones, each request's rows at the end of its keys. */
typedef struct tool_problem {
  int32_t requests, q_len, kv_len;
  int64_t q_index, kv_index, n;
  int32_t page_size; /* 0: dense. Else keys lie in pages, and those of a request are scattered over the pool */
  int32_t rest_len;  /* keys of every request but the first, paged only; 0: kv_len */
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

/* Ready to run but for Q, K and V, which take memory when they are loaded, filled or borrowed. schedule: SPINDLE_SCHEDULE_*. */
bool tool_call_open(tool_call *call, spindle_context *context, const tool_method *method, const spindle_shape *shape,
                    const tool_problem *problem, int32_t schedule);
enum { TOOL_Q, TOOL_K, TOOL_V, TOOL_NUM_INPUTS };
/* q [requests][q_len][Hq][D], k and v [requests][kv_len][Hkv][D or Dv], dense: rounded to the dtype (not to e4m3). The tensor is
 * there for every stream when this returns. */
bool tool_call_load(tool_call *call, int32_t tensor, const float *data);
/* Near-normal numbers instead, a block of them over and over: for large tensors, which are to be timed. */
bool tool_call_fill(tool_call *call, int32_t tensor, tool_random *random);
/* Bytes that the tensor takes; of the call only its shape and its problem are looked at. */
int64_t tool_call_input_bytes(const tool_call *call, int32_t tensor);
/* After the last run: Q, K and V make room for what is fetched. */
void tool_call_drop_inputs(tool_call *call);
/* Reads the tensors that `other`, of the same shape and problem but for the key state, has loaded. */
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
/* Does the backend serve tensors of this shape? Else why not, with nothing reported but to spindle_last_error. */
spindle_status tool_context_serves(spindle_context *context, const spindle_shape *shape);
/* Likewise for the call; and what it takes beyond Q, K and V. */
spindle_status tool_call_needs(spindle_context *context, const spindle_shape *shape, const tool_problem *problem,
                               int32_t schedule, int64_t *bytes);

#endif
