#include <spindle/spindle.h>
#include <stdio.h>
static float q[8 * 4 * 64], k[1000 * 2 * 64], v[1000 * 2 * 64], o[8 * 4 * 64]; /* 8 rows of 4 heads, 1000 raw keys of 2 */
int main(void) {
  spindle_shape shape = {sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64};
  spindle_position yarn = {sizeof yarn, .rope = SPINDLE_ROPE_YARN, .factor = 4, .original_max_position_embeddings = 2048};
  spindle_plan_options bounds = {sizeof bounds, .max_requests = 1, .max_q_rows = 8, .max_kv_len = 1000};
  spindle_context_options host = {sizeof host, .backend = SPINDLE_BACKEND_CPU}; /* tensors are ordinary memory */
  int32_t begin = 0, rows = 8, keys = 1000;
  spindle_batch batch = {sizeof batch, .max_requests = 1, .q_begin = &begin, .q_len = &rows, .kv_len = &keys};
  spindle_attention_args run = {sizeof run, .q_rows = 8, .q = {.data = q}, .k = {.data = k}, .v = {.data = v}, .o = {.data = o}};
  spindle_context *cpu; spindle_positions *table; spindle_plan *plan; void *state; size_t bytes;
  for (int i = 0; i < 1000 * 2 * 64; i++) v[i] = 1;
  if (spindle_context_create(&cpu, &host) || spindle_positions_create(&table, cpu, &shape, 1) ||
      spindle_positions_set(table, 0, &yarn, NULL) || spindle_plan_create(&plan, cpu, &shape, &bounds) ||
      spindle_plan_workspace(plan, &bytes, &run.scratch_bytes) || spindle_malloc(cpu, &state, bytes) ||
      spindle_malloc(cpu, &run.scratch, run.scratch_bytes) || spindle_plan_prepare(plan, table, &batch, state, bytes, NULL) ||
      spindle_attention(plan, &run, NULL))
    return fprintf(stderr, "%s\n", spindle_last_error()), 1;
  return printf("o[0] = %g\n", o[0]) < 0;
}
