/* The library on a GPU where there is no Criterion: bench/gpu compiles and runs this program, ctest runs it on the emulator.
 *
 * Calls are captured in a CUDA graph once and replayed while what they read changes in device memory: lengths, page tables,
 * position slots, rules, n, slots of the cache, partial results. Every replay is what a fresh run makes, bit for bit. And
 * spindle_rotate up to position 2^40 is what the cpu backend makes, which other tests hold against exact phases. */
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/calls.h"
#include "support/step.h"

static int failures;

static void check(bool good, const char *format, ...) {
  if (good) return;
  va_list args;
  va_start(args, format);
  printf("FAIL ");
  vprintf(format, args);
  printf("\n");
  va_end(args);
  failures++;
}

static void cuda_ok(cudaError_t error, const char *call) {
  if (error == cudaSuccess) return;
  printf("FAIL %s: %s\n", call, cudaGetErrorString(error));
  exit(1);
}
#define CUDA_OK(call) cuda_ok((call), #call)

/* What support/ calls where it cannot go on. */
void test_ok(spindle_status status) {
  if (status == SPINDLE_OK) return;
  printf("FAIL %s: %s\n", spindle_status_name(status), spindle_last_error());
  exit(1);
}

static void begin_capture(spindle_stream stream) { CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal)); }

static cudaGraphExec_t end_capture(spindle_stream stream) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  CUDA_OK(cudaStreamEndCapture(stream, &graph));
  CUDA_OK(cudaGraphInstantiate(&exec, graph, 0));
  CUDA_OK(cudaGraphDestroy(graph));
  return exec;
}

/* ---- Prepare and attention ---- */

static const test_step_lengths steps[] = {
    {{0, 8, 16}, {8, 8, 24}, {40, 8, 96}, {0, 1, 2}, {40, 8, 96}, {{0, 1, 2}, {3}, {4, 5, 6, 7, 8, 9}}},
    {{0, 8, 16}, {8, 8, 24}, {41, 9, 95}, {0, 1, 2}, {41, 9, 95}, {{0, 1, 2}, {3}, {4, 5, 6, 7, 8, 9}}},     /* lengths */
    {{0, 8, 16}, {8, 8, 24}, {41, 9, 95}, {2, 3, 0}, {41, 9, 95}, {{0, 1, 2}, {3}, {4, 5, 6, 7, 8, 9}}},     /* slots */
    {{0, 8, 16}, {8, 8, 24}, {41, 9, 95}, {2, 3, 0}, {4100, 9, 9500}, {{0, 1, 2}, {3}, {4, 5, 6, 7, 8, 9}}}, /* n */
    {{0, 8, 16}, {8, 8, 24}, {41, 9, 95}, {2, 3, 0}, {41, 9, 95}, {{9, 8, 7}, {19}, {6, 5, 4, 3, 2, 1}}},    /* tables */
    {{39, 0, 0}, {1, 0, 30}, {96, 0, 60}, {2, 0, 1}, {96, 1, 60}, {{9, 8, 7, 0, 1, 2}, {0}, {6, 5, 4, 3}}},  /* rows */
};
enum { NUM_STEPS = sizeof steps / sizeof *steps };

typedef struct result {
  uint16_t o[TEST_STEP_O];
  float lse[TEST_STEP_LSE];
} result;

static test_step open_step(void) {
  spindle_position rule[TEST_STEP_SLOTS] = {{.rope = SPINDLE_ROPE_DEFAULT},
                                            {.rope = SPINDLE_ROPE_DYNAMIC_NTK, .factor = 4, .max_position_embeddings = 32},
                                            {.rope = SPINDLE_ROPE_DYNAMIC_LINEAR, .max_position_embeddings = 64},
                                            {.rope = SPINDLE_ROPE_LINEAR, .factor = 3, .window_left = 7}};
  test_step s = test_step_open(NULL);
  for (int32_t slot = 0; slot < TEST_STEP_SLOTS; slot++) {
    rule[slot].struct_size = sizeof *rule;
    test_ok(spindle_positions_set(s.positions, slot, &rule[slot], s.stream));
  }
  return s;
}

/* Under capture the runtime refuses whatever allocates or waits, so that capturing works says that runs do neither. */
static cudaGraphExec_t capture_step(test_step *s) {
  begin_capture(s->stream);
  test_ok(test_step_run(s));
  return end_capture(s->stream);
}

static void replay_step(test_step *s, cudaGraphExec_t exec, const test_step_lengths *lengths, result *out) {
  test_step_set(s, lengths);
  test_step_clear(s);
  CUDA_OK(cudaGraphLaunch(exec, s->stream));
  test_step_fetch(s, out->o, out->lse);
}

static void run_fresh_step(const test_step_lengths *lengths, const spindle_position *slot_0, result *out) {
  test_step s = open_step();
  if (slot_0) test_ok(spindle_positions_set(s.positions, 0, slot_0, s.stream));
  test_step_set(&s, lengths);
  test_step_clear(&s);
  test_ok(test_step_run(&s));
  test_step_fetch(&s, out->o, out->lse);
  test_step_close(&s);
}

static void attention_follows_device_memory(void) {
  static result got, want, before;
  test_step s = open_step();
  cudaGraphExec_t exec = capture_step(&s);
  for (int x = 0; x < NUM_STEPS; x++) {
    replay_step(&s, exec, &steps[x], &got);
    run_fresh_step(&steps[x], NULL, &want);
    check(!memcmp(&got, &want, sizeof got), "replay %d of attention", x);
    check(memcmp(got.o, before.o, sizeof got.o), "replay %d of attention changed nothing", x);
    before = got;
  }
  CUDA_OK(cudaGraphExecDestroy(exec));
  test_step_close(&s);
}

/* A slot is written in stream order between two replays: a request with another factor needs no new capture. */
static void slots_change_between_replays(void) {
  static result got, want, before;
  test_step s = open_step();
  cudaGraphExec_t exec = capture_step(&s);
  replay_step(&s, exec, &steps[0], &before);
  for (int factor = 2; factor < 5; factor++) {
    spindle_position position = {.struct_size = sizeof position,
                                 .rope = SPINDLE_ROPE_YARN,
                                 .factor = factor,
                                 .original_max_position_embeddings = 32,
                                 .remap = SPINDLE_REMAP_REROPE,
                                 .remap_window = 4 * factor};
    test_ok(spindle_positions_set(s.positions, 0, &position, s.stream));
    replay_step(&s, exec, &steps[0], &got);
    run_fresh_step(&steps[0], &position, &want);
    check(!memcmp(&got, &want, sizeof got), "replay under factor %d", factor);
    check(memcmp(got.o, before.o, sizeof got.o), "factor %d changed nothing", factor);
    before = got;
  }
  CUDA_OK(cudaGraphExecDestroy(exec));
  test_step_close(&s);
}

/* ---- Append, rotate, combine ---- */

static const test_calls_numbers numbers[] = {
    {{0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 5}, {6, 6, 6, 6, 6, 6}, {{1, 2, 3}, {3, 2, 1}}},
    {{9, -1, 15, 3, 99, 0}, {0, 1, 2, 3, 4, 5}, {6, 6, 6, 6, 6, 6}, {{1, 2, 3}, {3, 2, 1}}},           /* slots */
    {{9, -1, 15, 3, 99, 0}, {9, 1, 2, 777777, 4, 5}, {6, 6, 6, 6, 6, 6}, {{1, 2, 3}, {3, 2, 1}}},      /* indices */
    {{9, -1, 15, 3, 99, 0}, {9, 1, 2, 777777, 4, 5}, {6, 60, 600, 33, 6, 6}, {{1, 2, 3}, {3, 2, 1}}},  /* n */
    {{9, -1, 15, 3, 99, 0}, {9, 1, 2, 777777, 4, 5}, {6, 60, 600, 33, 6, 6}, {{1, 20, 3}, {3, 2, 9}}}, /* LSE of parts */
};
enum { NUM_NUMBERS = sizeof numbers / sizeof *numbers };

static void run_fresh_calls(const test_calls_numbers *with, test_calls_made *made) {
  test_calls c = test_calls_open(0);
  test_calls_set(&c, with);
  test_calls_run(&c);
  test_calls_fetch(&c, made);
  test_calls_close(&c);
}

static void other_calls_follow_device_memory(void) {
  static test_calls_made got, want, before;
  test_calls c = test_calls_open(0);
  begin_capture(c.stream);
  test_calls_run(&c);
  cudaGraphExec_t exec = end_capture(c.stream);
  for (int x = 0; x < NUM_NUMBERS; x++) {
    test_calls_set(&c, &numbers[x]);
    CUDA_OK(cudaGraphLaunch(exec, c.stream));
    test_calls_fetch(&c, &got);
    run_fresh_calls(&numbers[x], &want);
    check(!memcmp(&got, &want, sizeof got), "replay %d of append, rotate and combine", x);
    check(memcmp(&got, &before, sizeof got), "replay %d of append, rotate and combine changed nothing", x);
    before = got;
  }
  CUDA_OK(cudaGraphExecDestroy(exec));
  test_calls_close(&c);
}

/* ---- Far positions ---- */

enum { ROWS = 500, DIM = 128 };

/* out: cos, then sin of every pair, of the rows at these positions. */
static void rotate_unit_pairs(int32_t backend, const int64_t *index, float *out) {
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_BF16, .num_q_heads = 1, .head_dim_qk = DIM};
  spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
  spindle_position rule = {.struct_size = sizeof rule, .rope = SPINDLE_ROPE_DEFAULT, .rope_theta = 500000};
  spindle_context *context;
  spindle_positions *positions;
  void *x, *at;
  for (int i = 0; i < ROWS * DIM; i++) out[i] = i % DIM < DIM / 2;
  test_ok(spindle_context_create(&context, &options));
  test_ok(spindle_positions_create(&positions, context, &shape, 1));
  test_ok(spindle_positions_set(positions, 0, &rule, NULL));
  test_ok(spindle_malloc(context, &x, ROWS * DIM * sizeof *out));
  test_ok(spindle_malloc(context, &at, ROWS * sizeof *index));
  test_ok(spindle_copy(context, x, out, ROWS * DIM * sizeof *out, NULL));
  test_ok(spindle_copy(context, at, index, ROWS * sizeof *index, NULL));
  spindle_rotate_args args = {.struct_size = sizeof args,
                              .rows = ROWS,
                              .heads = 1,
                              .dtype = SPINDLE_F32,
                              .x = {.data = x},
                              .out = {.data = x},
                              .index = at};
  test_ok(spindle_rotate(context, &shape, positions, &args, NULL));
  test_ok(spindle_copy(context, out, x, ROWS * DIM * sizeof *out, NULL));
  test_ok(spindle_stream_sync(context, NULL));
  spindle_free(context, x);
  spindle_free(context, at);
  spindle_positions_destroy(positions);
  spindle_context_destroy(context);
}

/* Both are within 1e-6 of the truth. */
static void far_positions_are_the_cpu_s(void) {
  static float got[ROWS * DIM], want[ROWS * DIM];
  static int64_t index[ROWS];
  test_random r = test_random_start();
  double worst = 0;
  int at = 0;
  for (int i = 0; i < ROWS; i++) index[i] = test_random_log(&r, 1, (int64_t)1 << 40) - 1;
  rotate_unit_pairs(SPINDLE_BACKEND_CUDA, index, got);
  rotate_unit_pairs(SPINDLE_BACKEND_CPU, index, want);
  for (int i = 0; i < ROWS * DIM && worst <= 2e-6; i++) {
    const double off = fabs((double)got[i] - (double)want[i]);
    if (!(off <= worst)) worst = off, at = i;
  }
  check(worst <= 2e-6, "channel %d at position %lld is %.9g, on the cpu %.9g", at % DIM, (long long)index[at / DIM],
        (double)got[at], (double)want[at]);
  printf("     far positions are off by %.1e at most\n", worst);
}

int main(void) {
  static const struct {
    const char *name;
    void (*run)(void);
  } tests[] = {
      {"replays of attention follow device memory", attention_follows_device_memory},
      {"slots change between replays", slots_change_between_replays},
      {"replays of append, rotate and combine follow device memory", other_calls_follow_device_memory},
      {"far positions are the cpu's", far_positions_are_the_cpu_s},
  };
  for (size_t t = 0; t < sizeof tests / sizeof *tests; t++) {
    const int before = failures;
    tests[t].run();
    if (failures == before) printf("ok   %s\n", tests[t].name);
  }
  return failures != 0;
}
