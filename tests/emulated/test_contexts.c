/* Contexts of the cuda backend: which device they take and run on, that the caller's current device stays, memory, copies,
 * streams, events. */
#include <criterion/criterion.h>
#include <cuda_runtime_api.h>
#include <emulator.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/calls.h"
#include "support/refused.h"
#include "support/step.h"

static spindle_context *open_context(int32_t backend, int32_t device) {
  spindle_context *context;
  spindle_context_options o = {.struct_size = sizeof o, .backend = backend, .device = device};
  test_ok(spindle_context_create(&context, &o));
  return context;
}

static spindle_context_info info_of(const spindle_context *context) {
  spindle_context_info info = {.struct_size = sizeof info};
  test_ok(spindle_context_get_info(context, &info));
  return info;
}

static int current_device(void) {
  int device = -1;
  cr_assert_eq(cudaGetDevice(&device), cudaSuccess);
  return device;
}

static int device_of(const void *memory) {
  cudaPointerAttributes attributes;
  cr_assert_eq(cudaPointerGetAttributes(&attributes, memory), cudaSuccess);
  cr_assert_eq(attributes.type, cudaMemoryTypeDevice);
  return attributes.device;
}

Test(contexts, auto_takes_the_device) {
  static const char *const archs[] = {"80", "90"};
  for (int a = 0; a < 2; a++) {
    setenv("SPINDLE_EMULATED_ARCH", archs[a], 1);
    spindle_context *context = open_context(SPINDLE_BACKEND_AUTO, 0);
    spindle_context_info info = info_of(context);
    cr_assert_eq(info.backend, SPINDLE_BACKEND_CUDA);
    cr_assert_eq(info.arch, atoi(archs[a]));
    cr_assert_eq(info.device, 0);
    cr_assert(strstr(info.name, "emulated"), "%s", info.name);
    spindle_context_destroy(context);
  }
}

Test(contexts, no_device) {
  spindle_context *context = NULL;
  spindle_context_options o = {.struct_size = sizeof o, .backend = SPINDLE_BACKEND_CUDA};
  setenv("SPINDLE_EMULATED_DEVICES", "0", 1);
  spindle_context *cpu = open_context(SPINDLE_BACKEND_AUTO, 0);
  cr_assert_eq(info_of(cpu).backend, SPINDLE_BACKEND_CPU);
  cr_assert_eq(info_of(cpu).arch, 0);
  cr_assert_str_eq(spindle_last_error(), "", "nothing failed, yet: %s", spindle_last_error());
  spindle_context_destroy(cpu);
  REFUSED(spindle_context_create(&context, &o), SPINDLE_NO_DEVICE, "no CUDA device");
  cr_assert_null(context);
}

Test(contexts, device_out_of_range) {
  spindle_context *context = NULL;
  spindle_context_options o = {.struct_size = sizeof o, .backend = SPINDLE_BACKEND_CUDA, .device = 2};
  setenv("SPINDLE_EMULATED_DEVICES", "2", 1);
  REFUSED(spindle_context_create(&context, &o), SPINDLE_INVALID_ARGUMENT, "options.device", "2", "[0, 1]");
  o.device = -1;
  REFUSED(spindle_context_create(&context, &o), SPINDLE_INVALID_ARGUMENT, "options.device", "-1");
}

/* Two contexts on two devices: each call works on its own, and the thread's device is never another after it. */
Test(contexts, current_device_stays) {
  setenv("SPINDLE_EMULATED_DEVICES", "3", 1);
  spindle_context *one = open_context(SPINDLE_BACKEND_CUDA, 1), *two = open_context(SPINDLE_BACKEND_CUDA, 2);
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_F16, .num_q_heads = 2, .head_dim_qk = 64};
  spindle_plan_options bounds = {.struct_size = sizeof bounds, .max_requests = 1, .max_q_rows = 8, .max_kv_len = 8};
  spindle_position position = {.struct_size = sizeof position, .rope = SPINDLE_ROPE_DEFAULT};
  for (int device = 0; device < 3; device++) {
    void *a, *b;
    char host[100] = {0};
    double milliseconds;
    spindle_stream stream;
    spindle_event *event;
    spindle_positions *positions;
    spindle_plan *plan;
    cr_assert_eq(cudaSetDevice(device), cudaSuccess);
    test_ok(spindle_malloc(one, &a, 100));
    test_ok(spindle_malloc(two, &b, 100));
    cr_assert_eq(device_of(a), 1);
    cr_assert_eq(device_of(b), 2);
    test_ok(spindle_stream_create(two, &stream));
    test_ok(spindle_copy(two, b, host, sizeof host, stream));
    test_ok(spindle_event_create(two, &event));
    test_ok(spindle_event_record(two, event, stream));
    test_ok(spindle_event_elapsed(two, event, event, &milliseconds));
    test_ok(spindle_positions_create(&positions, two, &shape, 3));
    test_ok(spindle_positions_set(positions, 1, &position, stream));
    test_ok(spindle_plan_create(&plan, two, &shape, &bounds));
    test_ok(spindle_stream_sync(two, stream));
    REFUSED(spindle_malloc(two, &b, (size_t)1 << 60), SPINDLE_OUT_OF_MEMORY, "device 2");
    cr_assert_eq(current_device(), device);
    spindle_plan_destroy(plan);
    spindle_positions_destroy(positions);
    spindle_event_destroy(two, event);
    spindle_stream_destroy(two, stream);
    spindle_free(one, a);
    cr_assert_eq(current_device(), device);
  }
  spindle_context_destroy(one);
  spindle_context_destroy(two);
}

/* Prepare and attention; then append, rotate and combine. */
typedef struct result {
  uint16_t o[TEST_STEP_O];
  float lse[TEST_STEP_LSE];
  test_calls_made made;
} result;

static void run_calls(int32_t device, result *out) {
  static const test_step_lengths lengths = {{0, 8, 16}, {8, 8, 24},  {40, 8, 96},
                                            {0, 0, 0},  {40, 8, 96}, {{0, 1, 2}, {3}, {4, 5, 6, 7, 8, 9}}};
  static const test_calls_numbers numbers = {
      {9, -1, 15, 3, 99, 0}, {9, 1, 2, 777777, 4, 5}, {6, 60, 600, 33, 6, 6}, {{1, 20, 3}, {3, 2, 9}}};
  test_step s = test_step_open_on(device, NULL);
  test_step_set(&s, &lengths);
  test_ok(test_step_run(&s));
  test_step_fetch(&s, out->o, out->lse);
  test_step_close(&s);
  test_calls c = test_calls_open(device);
  test_calls_set(&c, &numbers);
  test_calls_run(&c);
  test_calls_fetch(&c, &out->made);
  test_calls_close(&c);
}

/* Whichever device is current: work of device 1 on device 0 would read memory that it cannot see, or be refused its stream. */
Test(contexts, calls_run_on_their_device) {
  static result here, there;
  setenv("SPINDLE_EMULATED_DEVICES", "2", 1);
  run_calls(0, &here);
  run_calls(1, &there);
  cr_assert(!memcmp(here.o, there.o, sizeof here.o) && !memcmp(here.lse, there.lse, sizeof here.lse), "attention");
  cr_assert(!memcmp(&here.made, &there.made, sizeof here.made), "append, rotate and combine");
  cr_assert_eq(current_device(), 0);
}

Test(contexts, copies_both_ways) {
  spindle_context *context = open_context(SPINDLE_BACKEND_CUDA, 0);
  spindle_stream stream;
  int32_t numbers[300], back[300] = {0};
  void *a, *b, *none = numbers;
  for (int32_t x = 0; x < 300; x++) numbers[x] = x * x;
  test_ok(spindle_malloc(context, &none, 0));
  cr_assert_null(none);
  test_ok(spindle_malloc(context, &a, sizeof numbers));
  test_ok(spindle_malloc(context, &b, sizeof numbers));
  cr_assert_eq((uintptr_t)a % 256 + (uintptr_t)b % 256, 0);
  test_ok(spindle_stream_create(context, &stream));
  cr_assert_not_null(stream);
  test_ok(spindle_copy(context, a, numbers, sizeof numbers, stream));
  memset(numbers, 0, sizeof numbers); /* pageable memory is ours again */
  test_ok(spindle_copy(context, b, a, sizeof numbers, stream));
  test_ok(spindle_copy(context, back, b, sizeof back, stream));
  for (int32_t x = 0; x < 300; x++) cr_assert_eq(back[x], x * x);
  spindle_stream_destroy(context, stream);
  spindle_free(context, a);
  spindle_free(context, b);
  spindle_context_destroy(context);
}

/* What a stream made here does is ordered with copies on stream NULL. */
Test(contexts, streams_and_null_are_ordered) {
  spindle_context *context = open_context(SPINDLE_BACKEND_CUDA, 0);
  spindle_stream stream;
  int32_t one = 1, got = 0;
  void *a, *b;
  test_ok(spindle_stream_create(context, &stream));
  test_ok(spindle_malloc(context, &a, sizeof one));
  test_ok(spindle_malloc(context, &b, sizeof one));
  test_ok(spindle_copy(context, a, &one, sizeof one, NULL));
  test_ok(spindle_copy(context, b, a, sizeof one, stream));
  test_ok(spindle_copy(context, &got, b, sizeof got, NULL));
  cr_assert_eq(got, 1);
  spindle_stream_destroy(context, stream);
  spindle_free(context, a);
  spindle_free(context, b);
  spindle_context_destroy(context);
}

Test(contexts, events_time_a_stream) {
  spindle_context *context = open_context(SPINDLE_BACKEND_CUDA, 0);
  spindle_stream stream;
  spindle_event *begin, *end;
  double milliseconds = -1;
  test_ok(spindle_stream_create(context, &stream));
  test_ok(spindle_event_create(context, &begin));
  test_ok(spindle_event_create(context, &end));
  test_ok(spindle_event_record(context, begin, stream));
  test_ok(spindle_event_record(context, end, stream));
  test_ok(spindle_event_elapsed(context, begin, end, &milliseconds));
  cr_assert_geq(milliseconds, 0);
  spindle_event_destroy(context, begin);
  spindle_event_destroy(context, end);
  spindle_stream_destroy(context, stream);
  spindle_context_destroy(context);
}
