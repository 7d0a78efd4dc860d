/* A step captured once and replayed: lengths, page tables, position slots, rules and n change between replays, and every replay
 * equals a fresh run. */
#include <criterion/criterion.h>
#include <cuda_runtime_api.h>
#include <emulator.h>
#include <string.h>

#include "support/attend.h"
#include "support/refused.h"
#include "support/step.h"

static const test_step_lengths steps[] = {
    {{0, 8, 16}, {8, 8, 24}, {40, 8, 96}, {0, 1, 2}, {40, 8, 96}, {{0, 1, 2}, {3}, {4, 5, 6, 7, 8, 9}}},
    {{0, 8, 16}, {8, 8, 24}, {41, 9, 95}, {0, 1, 2}, {41, 9, 95}, {{0, 1, 2}, {3}, {4, 5, 6, 7, 8, 9}}},     /* lengths */
    {{0, 8, 16}, {8, 8, 24}, {41, 9, 95}, {2, 3, 0}, {41, 9, 95}, {{0, 1, 2}, {3}, {4, 5, 6, 7, 8, 9}}},     /* slots */
    {{0, 8, 16}, {8, 8, 24}, {41, 9, 95}, {2, 3, 0}, {4100, 9, 9500}, {{0, 1, 2}, {3}, {4, 5, 6, 7, 8, 9}}}, /* n */
    {{0, 8, 16}, {8, 8, 24}, {41, 9, 95}, {2, 3, 0}, {41, 9, 95}, {{9, 8, 7}, {19}, {6, 5, 4, 3, 2, 1}}},    /* tables */
    {{39, 0, 0}, {1, 0, 30}, {96, 0, 60}, {2, 0, 1}, {96, 1, 60}, {{9, 8, 7, 0, 1, 2}, {0}, {6, 5, 4, 3}}},  /* rows */
};
#define NUM_STEPS (sizeof steps / sizeof *steps)

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

/* Under capture the runtime refuses whatever allocates or waits, so that capturing works says that runs do neither. */
static cudaGraphExec_t capture(test_step *s) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cr_assert_eq(cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  test_ok(test_step_run(s));
  cr_assert_eq(cudaStreamEndCapture(s->stream, &graph), cudaSuccess);
  cr_assert_eq(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  cr_assert_eq(cudaGraphDestroy(graph), cudaSuccess);
  return exec;
}

typedef struct result {
  uint16_t o[TEST_STEP_O];
  float lse[TEST_STEP_LSE];
} result;

static void replay(test_step *s, cudaGraphExec_t exec, const test_step_lengths *lengths, result *out) {
  test_step_set(s, lengths);
  test_step_clear(s);
  cr_assert_eq(cudaGraphLaunch(exec, s->stream), cudaSuccess);
  test_step_fetch(s, out->o, out->lse);
}

static void run_fresh(const test_step_lengths *lengths, const spindle_position *slot_0, result *out) {
  test_step s = test_step_open(NULL);
  set_rules(&s);
  if (slot_0) test_ok(spindle_positions_set(s.positions, 0, slot_0, s.stream));
  test_step_set(&s, lengths);
  test_ok(test_step_run(&s));
  test_step_fetch(&s, out->o, out->lse);
  test_step_close(&s);
}

Test(graph, replays_follow_device_memory) {
  static result got, want, before;
  test_step s = test_step_open(NULL);
  set_rules(&s);
  cudaGraphExec_t exec = capture(&s);
  for (size_t x = 0; x < NUM_STEPS; x++) {
    replay(&s, exec, &steps[x], &got);
    run_fresh(&steps[x], NULL, &want);
    cr_assert(!memcmp(&got, &want, sizeof got), "step %zu", x);
    cr_assert(memcmp(got.o, before.o, sizeof got.o), "step %zu changed nothing", x);
    before = got;
  }
  cr_assert_eq(cudaGraphExecDestroy(exec), cudaSuccess);
  test_step_close(&s);
}

/* A slot is written in stream order between two replays: a request with another factor needs no new capture. */
Test(graph, slots_change_between_replays) {
  static result got, want, before;
  test_step s = test_step_open(NULL);
  set_rules(&s);
  cudaGraphExec_t exec = capture(&s);
  replay(&s, exec, &steps[0], &before);
  for (int factor = 2; factor < 5; factor++) {
    spindle_position position = {.struct_size = sizeof position,
                                 .rope = SPINDLE_ROPE_YARN,
                                 .factor = factor,
                                 .original_max_position_embeddings = 32,
                                 .remap = SPINDLE_REMAP_REROPE,
                                 .remap_window = 4 * factor};
    test_ok(spindle_positions_set(s.positions, 0, &position, s.stream));
    replay(&s, exec, &steps[0], &got);
    run_fresh(&steps[0], &position, &want);
    cr_assert(!memcmp(&got, &want, sizeof got), "factor %d", factor);
    cr_assert(memcmp(got.o, before.o, sizeof got.o), "factor %d changed nothing", factor);
    before = got;
  }
  cr_assert_eq(cudaGraphExecDestroy(exec), cudaSuccess);
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
    test_step_set(&s, &steps[0]);
    test_ok(test_step_run(&s));
    test_ok(spindle_positions_set(s.positions, 0, &other, s.stream));
    test_step_fetch(&s, got.o, got.lse);
    run_fresh(&steps[0], NULL, &want);
    cr_assert(!memcmp(&got, &want, sizeof got), "the slot of a later call, late %d", late);
    test_ok(test_step_run(&s));
    test_step_fetch(&s, got.o, got.lse);
    run_fresh(&steps[0], &other, &want);
    cr_assert(!memcmp(&got, &want, sizeof got), "the slot of the call before, late %d", late);
    test_step_close(&s);
  }
}
