/* Calls that launch kernels, beside what they compute: append, rotate and combine are captured once and replayed while device
 * memory changes (prepare and attention: test_graph.c), and every call runs on its context's device, which need not be current.
 */
#include <criterion/criterion.h>
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/calls.h"
#include "support/step.h"

static const test_calls_numbers numbers[] = {
    {{0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 5}, {6, 6, 6, 6, 6, 6}, {{1, 2, 3}, {3, 2, 1}}},
    {{9, -1, 15, 3, 99, 0}, {0, 1, 2, 3, 4, 5}, {6, 6, 6, 6, 6, 6}, {{1, 2, 3}, {3, 2, 1}}},           /* slots */
    {{9, -1, 15, 3, 99, 0}, {9, 1, 2, 777777, 4, 5}, {6, 6, 6, 6, 6, 6}, {{1, 2, 3}, {3, 2, 1}}},      /* indices */
    {{9, -1, 15, 3, 99, 0}, {9, 1, 2, 777777, 4, 5}, {6, 60, 600, 33, 6, 6}, {{1, 2, 3}, {3, 2, 1}}},  /* n */
    {{9, -1, 15, 3, 99, 0}, {9, 1, 2, 777777, 4, 5}, {6, 60, 600, 33, 6, 6}, {{1, 20, 3}, {3, 2, 9}}}, /* LSE of parts */
};
#define NUM_NUMBERS (sizeof numbers / sizeof *numbers)

static cudaGraphExec_t capture(test_calls *c) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cr_assert_eq(cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  test_calls_run(c);
  cr_assert_eq(cudaStreamEndCapture(c->stream, &graph), cudaSuccess);
  cr_assert_eq(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  cr_assert_eq(cudaGraphDestroy(graph), cudaSuccess);
  return exec;
}

static void run_fresh(int32_t device, const test_calls_numbers *with, test_calls_made *made) {
  test_calls c = test_calls_open(device);
  test_calls_set(&c, with);
  test_calls_run(&c);
  test_calls_fetch(&c, made);
  test_calls_close(&c);
}

Test(calls, replays_follow_device_memory) {
  static test_calls_made got, want, before;
  test_calls c = test_calls_open(0);
  cudaGraphExec_t exec = capture(&c);
  for (size_t x = 0; x < NUM_NUMBERS; x++) {
    test_calls_set(&c, &numbers[x]);
    cr_assert_eq(cudaGraphLaunch(exec, c.stream), cudaSuccess);
    test_calls_fetch(&c, &got);
    run_fresh(0, &numbers[x], &want);
    cr_assert(!memcmp(&got, &want, sizeof got), "replay %zu", x);
    cr_assert(memcmp(&got, &before, sizeof got), "replay %zu changed nothing", x);
    before = got;
  }
  cr_assert_eq(cudaGraphExecDestroy(exec), cudaSuccess);
  test_calls_close(&c);
}

static const test_step_lengths lengths = {{0, 8, 16}, {8, 8, 24},  {40, 8, 96},
                                          {0, 0, 0},  {40, 8, 96}, {{0, 1, 2}, {3}, {4, 5, 6, 7, 8, 9}}};

typedef struct step_result {
  uint16_t o[TEST_STEP_O];
  float lse[TEST_STEP_LSE];
} step_result;

static void run_step(int32_t device, step_result *out) {
  test_step s = test_step_open_on(device, NULL);
  test_step_set(&s, &lengths);
  test_ok(test_step_run(&s));
  test_step_fetch(&s, out->o, out->lse);
  test_step_close(&s);
}

/* Whichever device is current: work of device 1 on device 0 would read memory that it cannot see, or be refused its stream. */
Test(calls, run_on_the_context_s_device) {
  static step_result here, there;
  static test_calls_made made_here, made_there;
  int current;
  setenv("SPINDLE_EMULATED_DEVICES", "2", 1);
  run_step(0, &here);
  run_step(1, &there);
  run_fresh(0, &numbers[0], &made_here);
  run_fresh(1, &numbers[0], &made_there);
  cr_assert(!memcmp(&here, &there, sizeof here), "attention");
  cr_assert(!memcmp(&made_here, &made_there, sizeof made_here), "append, rotate and combine");
  cr_assert_eq(cudaGetDevice(&current), cudaSuccess);
  cr_assert_eq(current, 0);
}
