/* Position slots and streams: what a capture must not hold, and when a slot is written. What is captured and replayed is in
 * tests/gpu/replay.c, for GPUs too. */
#include <criterion/criterion.h>
#include <cuda_runtime_api.h>
#include <emulator.h>
#include <string.h>

#include "support/attend.h"
#include "support/refused.h"
#include "support/step.h"

static const test_step_lengths lengths = {{0, 8, 16}, {8, 8, 24},  {40, 8, 96},
                                          {0, 1, 2},  {40, 8, 96}, {{0, 1, 2}, {3}, {4, 5, 6, 7, 8, 9}}};

static void set_rules(test_step *s) {
  spindle_position rule[TEST_STEP_SLOTS] = {{.rope = SPINDLE_ROPE_DEFAULT},
                                            {.rope = SPINDLE_ROPE_DYNAMIC_NTK, .factor = 4, .max_position_embeddings = 32},
                                            {.rope = SPINDLE_ROPE_DYNAMIC_LINEAR, .max_position_embeddings = 64},
                                            {.rope = SPINDLE_ROPE_LINEAR, .factor = 3, .window_left = 7}};
  for (int32_t slot = 0; slot < TEST_STEP_SLOTS; slot++) {
    rule[slot].struct_size = sizeof *rule;
    test_ok(spindle_positions_set(s->positions, slot, &rule[slot], s->stream));
  }
}

typedef struct result {
  uint16_t o[TEST_STEP_O];
  float lse[TEST_STEP_LSE];
} result;

static void run_fresh(const spindle_position *slot_0, result *out) {
  test_step s = test_step_open(NULL);
  set_rules(&s);
  if (slot_0) test_ok(spindle_positions_set(s.positions, 0, slot_0, s.stream));
  test_step_set(&s, &lengths);
  test_ok(test_step_run(&s));
  test_step_fetch(&s, out->o, out->lse);
  test_step_close(&s);
}

/* What a replay would read is gone when the call returns. */
Test(graph, slots_are_not_captured) {
  test_step s = test_step_open(NULL);
  cudaGraph_t graph;
  spindle_position position = {.struct_size = sizeof position, .rope = SPINDLE_ROPE_DEFAULT};
  cr_assert_eq(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  REFUSED(spindle_positions_set(s.positions, 0, &position, s.stream), SPINDLE_INVALID_ARGUMENT, "captured");
  cr_assert_eq(cudaStreamEndCapture(s.stream, &graph), cudaSuccess);
  cr_assert_eq(cudaGraphDestroy(graph), cudaSuccess);
  test_step_close(&s);
}

/* The next run's descriptors may be set while the last one is still queued: slots are copied when the call is made, and written
 * when the stream gets there. */
Test(graph, slots_are_written_in_stream_order) {
  static result got, want;
  spindle_position other = {.struct_size = sizeof other, .rope = SPINDLE_ROPE_LINEAR, .factor = 8};
  for (int late = 0; late < 2; late++) {
    emulator_options options = {.streams = late ? EMULATOR_LATE : EMULATOR_EAGER};
    emulator_configure(&options);
    test_step s = test_step_open(NULL);
    set_rules(&s);
    test_step_set(&s, &lengths);
    test_ok(test_step_run(&s));
    test_ok(spindle_positions_set(s.positions, 0, &other, s.stream));
    test_step_fetch(&s, got.o, got.lse);
    run_fresh(NULL, &want);
    cr_assert(!memcmp(&got, &want, sizeof got), "the slot of a later call, late %d", late);
    test_ok(test_step_run(&s));
    test_step_fetch(&s, got.o, got.lse);
    run_fresh(&other, &want);
    cr_assert(!memcmp(&got, &want, sizeof got), "the slot of the call before, late %d", late);
    test_step_close(&s);
  }
}
