/* What the cuda backend refuses and reports: shapes, bounds, workspaces, memory, and faults of kernels that have been launched.
 */
#include <criterion/criterion.h>
#include <cuda_runtime_api.h>
#include <emulator.h>

#include "support/attend.h"
#include "support/refused.h"
#include "support/step.h"

static const test_step_lengths lengths = {{0, 8, 16}, {8, 8, 24},  {40, 8, 96},
                                          {0, 0, 0},  {40, 8, 96}, {{0, 1, 2}, {3}, {4, 5, 6, 7, 8, 9}}};

static spindle_context *open_context(void) {
  spindle_context *context;
  spindle_context_options o = {.struct_size = sizeof o, .backend = SPINDLE_BACKEND_CUDA};
  test_ok(spindle_context_create(&context, &o));
  return context;
}

Test(errors, shapes_not_served) {
  spindle_context *context = open_context();
  spindle_plan *plan = NULL;
  spindle_plan_options bounds = {.struct_size = sizeof bounds, .max_requests = 1, .max_q_rows = 8, .max_kv_len = 8};
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = 2, .head_dim_qk = 64};
  REFUSED(spindle_plan_create(&plan, context, &shape, &bounds), SPINDLE_UNSUPPORTED, "f32", "f16 or bf16");
  shape.kv_dtype = SPINDLE_F8E4M3;
  REFUSED(spindle_plan_create(&plan, context, &shape, &bounds), SPINDLE_UNSUPPORTED, "f32", "f8e4m3");
  shape.q_dtype = SPINDLE_BF16;
  shape.kv_dtype = SPINDLE_F16;
  REFUSED(spindle_plan_create(&plan, context, &shape, &bounds), SPINDLE_UNSUPPORTED, "bf16", "f16");
  shape.kv_dtype = 0;
  shape.head_dim_qk = 264;
  REFUSED(spindle_plan_create(&plan, context, &shape, &bounds), SPINDLE_UNSUPPORTED, "head_dim_qk 264", "head_dim_v 264");
  shape.head_dim_qk = 64;
  shape.head_dim_v = 512;
  REFUSED(spindle_plan_create(&plan, context, &shape, &bounds), SPINDLE_UNSUPPORTED, "head_dim_qk 64", "head_dim_v 512");
  cr_assert_null(plan);
  shape.head_dim_v = 0;
  test_ok(spindle_plan_create(&plan, context, &shape, &bounds));
  spindle_plan_destroy(plan);
  spindle_context_destroy(context);
}

Test(errors, more_items_than_can_be_counted) {
  spindle_context *context = open_context();
  spindle_plan *plan = NULL;
  spindle_plan_options bounds = {.struct_size = sizeof bounds, .max_requests = 1, .max_q_rows = 1 << 30, .max_kv_len = 8};
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_BF16, .num_q_heads = 64, .head_dim_qk = 64};
  REFUSED(spindle_plan_create(&plan, context, &shape, &bounds), SPINDLE_LIMIT_EXCEEDED, "options.max_q_rows", "1073741824",
          "2147483647");
  bounds.max_q_rows = 1 << 24;
  test_ok(spindle_plan_create(&plan, context, &shape, &bounds));
  spindle_plan_destroy(plan);
  spindle_context_destroy(context);
}

/* Workspaces of just the bytes asked for serve (test_step_open gives no more), one byte less does not, and then nothing runs.
 * Keys rotated before the loop are what lies in scratch whatever the size of the device's tiles. */
Test(errors, one_byte_less) {
  const spindle_plan_options options = {.schedule = SPINDLE_SCHEDULE_PREROTATE};
  test_step s = test_step_open(&options);
  cr_assert_gt(s.args.scratch_bytes, 0);
  test_step_set(&s, &lengths);
  test_ok(test_step_run(&s));
  test_ok(spindle_stream_sync(s.context, s.stream));
  uint64_t launches = emulator_work_done().launches;
  s.args.scratch_bytes--;
  REFUSED(spindle_attention(s.plan, &s.args, s.stream), SPINDLE_WORKSPACE_TOO_SMALL, "args.scratch");
  REFUSED(spindle_plan_prepare(s.plan, s.positions, &s.batch, s.state, s.state_bytes - 1, s.stream), SPINDLE_WORKSPACE_TOO_SMALL,
          "state");
  test_ok(spindle_stream_sync(s.context, s.stream));
  cr_assert_eq(emulator_work_done().launches, launches);
  test_step_close(&s);
}

Test(errors, out_of_memory) {
  spindle_context *context = open_context();
  void *memory = &context;
  REFUSED(spindle_malloc(context, &memory, (size_t)1 << 60), SPINDLE_OUT_OF_MEMORY, "device 0", "1152921504606846976");
  cr_assert_null(memory);
  test_ok(spindle_malloc(context, &memory, 100)); /* the error is gone */
  spindle_free(context, memory);
  cr_assert_eq(cudaGetLastError(), cudaSuccess);
  spindle_context_destroy(context);
}

/* An error that the caller's own call has left in the thread is not taken for ours. */
Test(errors, of_others) {
  test_step s = test_step_open(NULL);
  test_step_set(&s, &lengths);
  cr_assert_neq(cudaSetDevice(77), cudaSuccess);
  test_ok(test_step_run(&s));
  test_step_close(&s);
}

/* A kernel that faults: the call that launched it has returned, later ones report. */
Test(errors, faults_surface_later) {
  emulator_options options = {.streams = EMULATOR_LATE, .quiet = 1};
  emulator_configure(&options);
  test_step s = test_step_open(NULL);
  void *memory;
  test_step_set(&s, &lengths);
  test_ok(spindle_malloc(s.context, &s.memory[6], (TEST_STEP_O - 256) * sizeof(uint16_t))); /* a row too few for Q */
  s.args.q.data = s.memory[6];
  test_ok(test_step_run(&s));
  REFUSED(spindle_stream_sync(s.context, s.stream), SPINDLE_CUDA_ERROR, "cudaStreamSynchronize", "cudaErrorLaunchFailure");
  REFUSED(test_step_run(&s), SPINDLE_CUDA_ERROR, "cudaErrorLaunchFailure");
  REFUSED(spindle_malloc(s.context, &memory, 100), SPINDLE_CUDA_ERROR, "cudaErrorLaunchFailure");
  cr_assert(emulator_found(EMULATOR_GLOBAL_BOUNDS));
  emulator_forget();
  test_step_close(&s);
}

Test(errors, memory_is_given_back) {
  size_t before, after, total;
  cr_assert_eq(cudaMemGetInfo(&before, &total), cudaSuccess);
  test_step s = test_step_open(NULL);
  test_step_set(&s, &lengths);
  test_ok(test_step_run(&s));
  test_step_close(&s);
  cr_assert_eq(cudaMemGetInfo(&after, &total), cudaSuccess);
  cr_assert_eq(before, after);
}
