/* The CPU backend's table. */
#include <stdio.h>

#include "cpu.h"

static spindle_status describe(const spindle_context *context, char *name, size_t bytes) {
  (void)context;
  snprintf(name, bytes, "cpu (%s)", spindle__cpu_kernels_get()->name);
  return SPINDLE_OK;
}

const spindle__backend spindle__cpu_backend = {
    .name = "cpu",
    .device = &spindle__host_device,
    .describe = describe,
    .plan = spindle__cpu_plan,
    .prepare = spindle__cpu_prepare,
    .attention = spindle__cpu_attention,
    .append = spindle__cpu_append,
    .rotate = spindle__cpu_rotate,
    .combine = spindle__cpu_combine,
};
