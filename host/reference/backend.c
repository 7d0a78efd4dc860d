/* The reference backend's table of functions, and the preparing of a step. */
#include "reference.h"

#include <stdio.h>

static spindle_status describe(const spindle_context *context, char *name, size_t bytes) {
  (void)context;
  snprintf(name, bytes, "reference (float64)");
  return SPINDLE_OK;
}

static size_t whole_lines(size_t bytes) { return (bytes + 255) / 256 * 256; }

static spindle_status plan_sizes(spindle_plan *plan) {
  plan->state_bytes = whole_lines((size_t)plan->options.max_requests * sizeof(spindle__ref_request));
  plan->scratch_bytes = spindle__ref_scratch_bytes(plan);
  return SPINDLE_OK;
}

static spindle_status prepare(const spindle_plan *plan, const spindle_positions *positions, const spindle_batch *batch,
                              void *state, spindle_stream stream) {
  (void)stream;
  spindle__ref_request *prepared = state;
  for (int32_t r = 0; r < batch->max_requests; r++) {
    spindle__batch_request(plan, positions, batch, r, &prepared[r].request);
    const spindle__slot *slot = &positions->slots[prepared[r].request.slot];
    prepared[r].position = slot->position;
    spindle__ref_rope_of_slot(slot, plan->shape.rotary_dim, prepared[r].request.n, &prepared[r].rope);
  }
  return SPINDLE_OK;
}

const spindle__backend spindle__reference_backend = {
    .name = "reference",
    .device = &spindle__host_device,
    .describe = describe,
    .plan = plan_sizes,
    .prepare = prepare,
    .attention = spindle__ref_attention,
    .append = spindle__ref_append,
    .rotate = spindle__ref_rotate,
    .combine = spindle__ref_combine,
};
