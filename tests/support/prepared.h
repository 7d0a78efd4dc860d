/* What prepare has left in the state of a plan on the emulated device, whose memory the host can read. */
#ifndef SPINDLE_TESTS_SUPPORT_PREPARED_H
#define SPINDLE_TESTS_SUPPORT_PREPARED_H

#include "host/cuda/cuda.h"

static inline spindle__state test_prepared(const spindle_plan *plan) {
  spindle__cuda_layout layout;
  spindle__cuda_layout_of(plan, &layout);
  return spindle__cuda_state_of(&layout, plan->state);
}

#endif
