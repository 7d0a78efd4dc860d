/* One key: the output is its value. */
#include <spindle/spindle.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
  spindle_context *context;
  spindle_positions *positions;
  spindle_plan *plan;
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = 1, .head_dim_qk = 8};
  spindle_plan_options bounds = {.struct_size = sizeof bounds, .max_requests = 1, .max_q_rows = 1, .max_kv_len = 1};
  spindle_position position = {.struct_size = sizeof position, .rope = SPINDLE_ROPE_DEFAULT};
  size_t state_bytes, scratch_bytes;
  void *state, *scratch, *x, *o;
  int32_t zero = 0, one = 1;
  if (spindle_version() != SPINDLE_VERSION) return 1;
  if (spindle_context_create(&context, NULL) || spindle_positions_create(&positions, context, &shape, 1) ||
      spindle_positions_set(positions, 0, &position, NULL) || spindle_plan_create(&plan, context, &shape, &bounds) ||
      spindle_plan_workspace(plan, &state_bytes, &scratch_bytes) || spindle_malloc(context, &state, state_bytes) ||
      spindle_malloc(context, &scratch, scratch_bytes) || spindle_malloc(context, &x, 32) || spindle_malloc(context, &o, 32)) {
    fprintf(stderr, "%s\n", spindle_last_error());
    return 1;
  }
  for (int c = 0; c < 8; c++) ((float *)x)[c] = (float)c;
  spindle_batch batch = {.struct_size = sizeof batch, .max_requests = 1, .q_begin = &zero, .q_len = &one, .kv_len = &one};
  spindle_attention_args args = {.struct_size = sizeof args,
                                 .q_rows = 1,
                                 .q = {.data = x},
                                 .o = {.data = o},
                                 .k = {.data = x},
                                 .v = {.data = x},
                                 .scratch = scratch,
                                 .scratch_bytes = scratch_bytes};
  if (spindle_plan_prepare(plan, positions, &batch, state, state_bytes, NULL) || spindle_attention(plan, &args, NULL)) {
    fprintf(stderr, "%s\n", spindle_last_error());
    return 1;
  }
  int same = 1;
  for (int c = 0; c < 8; c++) same &= ((float *)o)[c] == (float)c;
  spindle_free(context, state);
  spindle_free(context, scratch);
  spindle_free(context, x);
  spindle_free(context, o);
  spindle_plan_destroy(plan);
  spindle_positions_destroy(positions);
  spindle_context_destroy(context);
  return !same;
}
