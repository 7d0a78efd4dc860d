/* Workspaces: their size does not grow with the square of anything, and not a byte past them is touched. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <criterion/criterion.h>

#include <spindle/spindle.h>

enum { DIM = 128, GUARD = 4096 };

typedef struct objects {
  spindle_context *context;
  spindle_positions *positions;
  spindle_plan *plan;
  size_t state_bytes, scratch_bytes;
  char *state, *scratch;
  float *q, *k, *v, *o;
} objects;

static void ok(spindle_status status) { cr_assert_eq(status, SPINDLE_OK, "%s", spindle_last_error()); }

static void *guarded(spindle_context *context, size_t bytes) {
  void *memory;
  ok(spindle_malloc(context, &memory, bytes + GUARD));
  memset((char *)memory + bytes, 0x5a, GUARD);
  return memory;
}

static void make(objects *x, int32_t rows, int32_t keys, int64_t window, int32_t split) {
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CPU, .num_threads = 2};
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = 1, .head_dim_qk = DIM};
  spindle_position position = {.struct_size = sizeof position, .rope = SPINDLE_ROPE_DEFAULT, .window_left = window};
  spindle_plan_options plan = {
      .struct_size = sizeof plan, .max_requests = 1, .max_q_rows = rows, .max_kv_len = keys, .split_keys = split};
  ok(spindle_context_create(&x->context, &options));
  ok(spindle_positions_create(&x->positions, x->context, &shape, 1));
  ok(spindle_positions_set(x->positions, 0, &position, NULL));
  ok(spindle_plan_create(&x->plan, x->context, &shape, &plan));
  ok(spindle_plan_workspace(x->plan, &x->state_bytes, &x->scratch_bytes));
  x->state = guarded(x->context, x->state_bytes);
  x->scratch = guarded(x->context, x->scratch_bytes);
  float **tensors[] = {&x->q, &x->k, &x->v, &x->o};
  for (int t = 0; t < 4; t++) {
    size_t count = (size_t)(t == 0 || t == 3 ? rows : keys) * DIM;
    ok(spindle_malloc(x->context, (void **)tensors[t], count * sizeof(float)));
    for (size_t c = 0; c < count; c++) (*tensors[t])[c] = (float)(c % 37) * 0.05f - 1.0f;
  }
}

static spindle_status run(objects *x, int32_t rows, int32_t keys, size_t scratch_bytes) {
  int32_t begin = 0;
  spindle_batch batch = {.struct_size = sizeof batch, .max_requests = 1, .q_begin = &begin, .q_len = &rows, .kv_len = &keys};
  ok(spindle_plan_prepare(x->plan, x->positions, &batch, x->state, x->state_bytes, NULL));
  spindle_attention_args args = {.struct_size = sizeof args,
                                 .q_rows = rows,
                                 .q = {.data = x->q},
                                 .k = {.data = x->k},
                                 .v = {.data = x->v},
                                 .o = {.data = x->o},
                                 .scratch = x->scratch,
                                 .scratch_bytes = scratch_bytes};
  return spindle_attention(x->plan, &args, NULL);
}

static void destroy(objects *x) {
  void *memory[] = {x->state, x->scratch, x->q, x->k, x->v, x->o};
  for (int m = 0; m < 6; m++) spindle_free(x->context, memory[m]);
  spindle_plan_destroy(x->plan);
  spindle_positions_destroy(x->positions);
  spindle_context_destroy(x->context);
}

static void check_exact(int32_t rows, int32_t keys, int32_t split) {
  objects x;
  char untouched[GUARD];
  memset(untouched, 0x5a, sizeof untouched);
  make(&x, rows, keys, 0, split);
  cr_assert_eq(run(&x, rows, keys, x.scratch_bytes - 1), SPINDLE_WORKSPACE_TOO_SMALL);
  ok(run(&x, rows, keys, x.scratch_bytes));
  cr_assert_eq(memcmp(x.state + x.state_bytes, untouched, GUARD), 0, "state is written past its end");
  cr_assert_eq(memcmp(x.scratch + x.scratch_bytes, untouched, GUARD), 0, "scratch is written past its end");
  destroy(&x);
}

Test(cpu_memory, prefill) { check_exact(1000, 1000, 0); }
Test(cpu_memory, decode) { check_exact(1, 20000, 0); }
Test(cpu_memory, fixed_splits) { check_exact(3, 20000, 256); }

/* 128k rows of float Q, K, V and O of one head are 256 MB of the 300. A window keeps the test short; the workspaces are those of
 * the full mask, for a plan does not know of masks. */
Test(cpu_memory, linear_in_128k_rows) {
  objects x;
  struct rusage usage;
  int32_t rows = 131072;
  make(&x, rows, rows, 1024, 0);
  cr_assert(x.state_bytes + x.scratch_bytes < 16u << 20, "workspaces have %zu bytes", x.state_bytes + x.scratch_bytes);
  ok(run(&x, rows, rows, x.scratch_bytes));
  getrusage(RUSAGE_SELF, &usage);
#if !defined(__SANITIZE_ADDRESS__)
  cr_assert(usage.ru_maxrss < 300 * 1024, "the process used %ld KB", usage.ru_maxrss);
#endif
  destroy(&x);
}
