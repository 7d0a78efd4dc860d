/* Plans: bounds in, workspace sizes out, and once a step prepare. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define WORKSPACE_ALIGNMENT 256

static spindle_status check_options(const spindle_plan_options *in, spindle_plan_options *out) {
  spindle_plan_options o;
  SPINDLE__TRY(spindle__read_descriptor(&o, sizeof o, in, "options"));
  if (!o.max_q_len) o.max_q_len = o.max_q_rows;
  SPINDLE__TRY(spindle__check_integer("options.max_requests", o.max_requests, 1, 65536));
  SPINDLE__TRY(spindle__check_integer("options.max_q_rows", o.max_q_rows, 1, 1 << 30));
  SPINDLE__TRY(spindle__check_integer("options.max_q_len", o.max_q_len, 1, o.max_q_rows));
  SPINDLE__TRY(spindle__check_integer("options.page_size", o.page_size, 0, 65535));
  SPINDLE__TRY(spindle__check_integer("options.max_kv_len", o.max_kv_len, 1, INT32_MAX));
  SPINDLE__TRY(spindle__check_integer("options.split_keys", o.split_keys, 0, INT32_MAX));
  SPINDLE__TRY(spindle__check_integer("options.schedule", o.schedule, SPINDLE_SCHEDULE_AUTO, SPINDLE_SCHEDULE_PREROTATE));
  SPINDLE__TRY(spindle__check_integer("options.partial", o.partial, 0, 1));
  SPINDLE__TRY(spindle__check_integer("options.remap_set", o.remap_set, 0, (1 << (SPINDLE_REMAP_LM_INFINITE + 1)) - 1));
  SPINDLE__TRY(spindle__check_integer("options.row_scale_set", o.row_scale_set, 0, (1 << (SPINDLE_ROWSCALE_SSMAX + 1)) - 1));
  *out = o;
  return SPINDLE_OK;
}

spindle_status spindle_plan_create(spindle_plan **plan, spindle_context *context, const spindle_shape *shape,
                                   const spindle_plan_options *options) {
  spindle_plan made = {.context = context};
  if (!plan) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "plan is NULL");
  if (!context) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "context is NULL");
  SPINDLE__TRY(spindle__check_shape(shape, &made.shape));
  SPINDLE__TRY(check_options(options, &made.options));
  SPINDLE__TRY(context->backend->plan(&made));
  spindle_plan *p = malloc(sizeof *p);
  if (!p) return spindle__fail(SPINDLE_OUT_OF_MEMORY, "no memory for a plan (%zu bytes)", sizeof *p);
  *p = made;
  *plan = p;
  return SPINDLE_OK;
}

void spindle_plan_destroy(spindle_plan *plan) { free(plan); }

spindle_status spindle_plan_workspace(const spindle_plan *plan, size_t *state_bytes, size_t *scratch_bytes) {
  if (!plan) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "plan is NULL");
  if (state_bytes) *state_bytes = plan->state_bytes;
  if (scratch_bytes) *scratch_bytes = plan->scratch_bytes;
  return SPINDLE_OK;
}

spindle_status spindle__check_workspace(const char *name, const void *workspace, size_t bytes, size_t needed) {
  if (!needed) return SPINDLE_OK;
  if (!workspace) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "%s is NULL, needs %zu bytes", name, needed);
  if ((uintptr_t)workspace % WORKSPACE_ALIGNMENT)
    return spindle__fail(SPINDLE_MISALIGNED, "%s is at %p, must be a multiple of %d bytes", name, workspace, WORKSPACE_ALIGNMENT);
  if (bytes < needed) return spindle__fail(SPINDLE_WORKSPACE_TOO_SMALL, "%s has %zu bytes, needs %zu", name, bytes, needed);
  return SPINDLE_OK;
}

static bool same_shape(const spindle_shape *a, const spindle_shape *b) { return !memcmp(a, b, sizeof *a); }

/* Kinds that the table holds and the plan was not made for. */
static spindle_status check_kinds(const char *field, uint32_t set, const _Atomic int32_t *count) {
  for (int32_t kind = 0; set && kind < SPINDLE__MAX_KINDS; kind++)
    if (count[kind] && !(set >> kind & 1))
      return spindle__fail(SPINDLE_INVALID_ARGUMENT, "positions holds kind %d, which options.%s (0x%x) leaves out", kind, field,
                           set);
  return SPINDLE_OK;
}

spindle_status spindle_plan_prepare(spindle_plan *plan, const spindle_positions *positions, const spindle_batch *batch,
                                    void *state, size_t state_bytes, spindle_stream stream) {
  spindle_batch checked;
  if (!plan) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "plan is NULL");
  if (!positions) return spindle__fail(SPINDLE_INVALID_ARGUMENT, "positions is NULL");
  if (positions->context != plan->context)
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "positions belongs to another context than plan");
  if (!same_shape(&positions->shape, &plan->shape))
    return spindle__fail(SPINDLE_INVALID_ARGUMENT, "positions was made for another shape than plan");
  SPINDLE__TRY(spindle__check_stream(plan->context, stream));
  SPINDLE__TRY(spindle__check_batch(plan, batch, &checked));
  SPINDLE__TRY(check_kinds("remap_set", plan->options.remap_set, positions->remap_count));
  SPINDLE__TRY(check_kinds("row_scale_set", plan->options.row_scale_set, positions->row_scale_count));
  SPINDLE__TRY(spindle__check_workspace("state", state, state_bytes, plan->state_bytes));

  spindle_batch previous = plan->batch;
  plan->batch = checked;
  spindle_status status = plan->context->backend->prepare(plan, positions, &checked, state, stream);
  if (status != SPINDLE_OK) {
    plan->batch = previous;
    return status;
  }
  plan->state = state;
  plan->uses_ssmax = positions->row_scale_count[SPINDLE_ROWSCALE_SSMAX] > 0;
  return SPINDLE_OK;
}
