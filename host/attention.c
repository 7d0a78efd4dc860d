/* spindle_attention: validation, then the backend. */
#include <math.h>

#include "internal.h"

#define MAX_ROWS ((int64_t)1 << 30)

static spindle_status check_weight(const char *name, const float *weight, bool needed, bool read, const char *why) {
  if (needed && !weight) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s is NULL, but %s needs it", name, why);
  if (weight && !read) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s is given, but %s does not read it", name, why);
  return spindle__check_array(name, weight, sizeof *weight, false);
}

static spindle_status check_weights(const spindle_plan *plan, const spindle_attention_args *a) {
  int32_t bias = plan->shape.bias;
  bool kerple = bias == SPINDLE_BIAS_KERPLE_LOG || bias == SPINDLE_BIAS_KERPLE_POWER;
  bool any = bias != SPINDLE_BIAS_NONE;
  SPINDLE__TRY(check_weight("args.bias_a", a->bias_a, any, any, "shape.bias"));
  SPINDLE__TRY(check_weight("args.bias_p", a->bias_p, kerple, kerple, "shape.bias"));
  SPINDLE__TRY(check_weight("args.sink_logits", a->sink_logits, false, true, ""));
  SPINDLE__TRY(
      check_weight("args.row_scale_s", a->row_scale_s, plan->uses_ssmax, true, "SPINDLE_ROWSCALE_SSMAX, which a slot uses,"));
  return check_weight("args.row_scale_b", a->row_scale_b, false, true, "");
}

static spindle_status check_numbers(spindle_attention_args *a, int32_t head_dim) {
  if (!isfinite(a->scale)) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "args.scale is %g, must be finite", a->scale);
  if (!(a->softcap >= 0) || !isfinite(a->softcap))
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "args.softcap is %g, must be finite and at least 0", a->softcap);
  SPINDLE__TRY(spindle__check_integer("args.q_rows", a->q_rows, 0, MAX_ROWS));
  if (a->scale == 0) a->scale = 1.0f / sqrtf((float)head_dim);
  return SPINDLE_OK;
}

static spindle_status check_tensors(const spindle_plan *plan, spindle_attention_args *a) {
  const spindle_shape *s = &plan->shape;
  const spindle_batch *b = &plan->batch;
  int64_t requests = b->max_requests, page_rows = b->page_size ? b->page_size : b->dense_rows;
  enum { Q, K, V, O, LSE, SCRATCH, STATE, COUNT };
  spindle__extent extent[COUNT];
  SPINDLE__TRY(spindle__check_rows("args.q", &a->q, s->q_dtype, requests, a->q_rows, s->num_q_heads, s->head_dim_qk, &extent[Q]));
  SPINDLE__TRY(
      spindle__check_cache("args.k", &a->k, s->kv_dtype, b->num_pages, page_rows, s->num_kv_heads, s->head_dim_qk, &extent[K]));
  SPINDLE__TRY(
      spindle__check_cache("args.v", &a->v, s->kv_dtype, b->num_pages, page_rows, s->num_kv_heads, s->head_dim_v, &extent[V]));
  SPINDLE__TRY(spindle__check_rows("args.o", &a->o, s->o_dtype, requests, a->q_rows, s->num_q_heads, s->head_dim_v, &extent[O]));
  SPINDLE__TRY(spindle__check_lse("args.lse", &a->lse, requests, a->q_rows, s->num_q_heads, &extent[LSE]));
  SPINDLE__TRY(spindle__check_workspace("args.scratch", a->scratch, a->scratch_bytes, plan->scratch_bytes));
  extent[SCRATCH] = (spindle__extent){"args.scratch", (uintptr_t)a->scratch, (uintptr_t)a->scratch + plan->scratch_bytes};
  extent[STATE] = (spindle__extent){"state", (uintptr_t)plan->state, (uintptr_t)plan->state + plan->state_bytes};
  for (int32_t output = O; output <= SCRATCH; output++) {
    SPINDLE__TRY(spindle__check_no_overlap(&extent[output], extent, output));
    SPINDLE__TRY(spindle__check_no_overlap(&extent[output], extent + output + 1, COUNT - output - 1));
  }
  return SPINDLE_OK;
}

spindle_status spindle_attention(const spindle_plan *plan, const spindle_attention_args *args, spindle_stream stream) {
  spindle_attention_args a;
  if (!plan) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "plan is NULL");
  SPINDLE__TRY(spindle__check_stream(plan->context, stream));
  SPINDLE__TRY(spindle__read_descriptor(&a, sizeof a, args, "args"));
  if (!plan->state) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "plan has not been prepared");
  SPINDLE__TRY(check_numbers(&a, plan->shape.head_dim_qk));
  SPINDLE__TRY(check_weights(plan, &a));
  SPINDLE__TRY(check_tensors(plan, &a));
  if (a.q_rows == 0) return SPINDLE_OK;
  return plan->context->backend->attention(plan, &a, stream);
}
