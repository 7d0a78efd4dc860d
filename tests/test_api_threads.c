/* One context and one position table serve any number of threads at once, each with a plan of its own; errors stay in their
 * thread. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/methods.h"

enum { THREADS = 4, ROUNDS = 30, KEYS = 100, HEADS = 2, DIM = 32 };

typedef struct shared {
  spindle_context *context;
  spindle_positions *table;
  spindle_shape shape;
} shared;

typedef struct worker {
  const shared *shared;
  int32_t number;
  float *q, *k, *v, *o, *first;
  const char *failure;
} worker;

/* One call over the worker's own slot; NULL, or what went wrong. */
static const char *attend(worker *w, spindle_plan *plan, char *workspace, size_t state_bytes, size_t scratch_bytes) {
  const int32_t zero = 0, rows = KEYS;
  spindle_batch b = {
      .struct_size = sizeof b, .max_requests = 1, .q_begin = &zero, .q_len = &rows, .kv_len = &rows, .position = &w->number};
  spindle_attention_args a = {.struct_size = sizeof a,
                              .q_rows = KEYS,
                              .q = {.data = w->q},
                              .k = {.data = w->k},
                              .v = {.data = w->v},
                              .o = {.data = w->o},
                              .scratch = workspace + state_bytes,
                              .scratch_bytes = scratch_bytes};
  if (spindle_plan_prepare(plan, w->shared->table, &b, workspace, state_bytes, NULL)) return "prepare";
  return spindle_attention(plan, &a, NULL) ? "attention" : NULL;
}

static void *work(void *argument) {
  worker *w = argument;
  spindle_plan_options bounds = {
      .struct_size = sizeof bounds, .max_requests = 1, .max_q_rows = KEYS, .max_kv_len = KEYS, .split_keys = 64};
  spindle_position p = test_rule(w->number % 2 ? SPINDLE_ROPE_YARN : SPINDLE_ROPE_DYNAMIC_NTK, DIM);
  spindle_plan *plan;
  size_t state_bytes, scratch_bytes, bytes = KEYS * HEADS * DIM * sizeof(float);
  if (spindle_plan_create(&plan, w->shared->context, &w->shared->shape, &bounds)) return NULL;
  spindle_plan_workspace(plan, &state_bytes, &scratch_bytes);
  char *workspace = test_memory(state_bytes + scratch_bytes);
  for (int round = 0; round < ROUNDS && !w->failure; round++) {
    if (spindle_positions_set(w->shared->table, w->number, &p, NULL)) w->failure = "set";
    if (spindle_positions_set(w->shared->table, 1000 + w->number, &p, NULL) != SPINDLE_INVALID_ARGUMENT)
      w->failure = "set out of range";
    char number[20];
    snprintf(number, sizeof number, "%d", 1000 + w->number);
    if (!strstr(spindle_last_error(), number)) w->failure = "another thread's error";
    if (!w->failure) w->failure = attend(w, plan, workspace, state_bytes, scratch_bytes);
    if (round == 0) memcpy(w->first, w->o, bytes);
    if (memcmp(w->first, w->o, bytes)) w->failure = "other bits than in the first round";
  }
  free(workspace);
  spindle_plan_destroy(plan);
  return NULL;
}

Test(api_threads, share_a_context_and_a_table) {
  test_random r = test_random_start();
  shared s = {.shape = test_shape((spindle_shape){.num_q_heads = HEADS, .head_dim_qk = DIM})};
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CPU, .num_threads = 2};
  worker workers[THREADS];
  pthread_t threads[THREADS];
  test_ok(spindle_context_create(&s.context, &options));
  test_ok(spindle_positions_create(&s.table, s.context, &s.shape, THREADS));
  for (int t = 0; t < THREADS; t++) {
    worker *w = &workers[t];
    float **tensors[] = {&w->q, &w->k, &w->v, &w->o, &w->first};
    *w = (worker){.shared = &s, .number = t};
    for (int x = 0; x < 5; x++) *tensors[x] = test_memory(KEYS * HEADS * DIM * sizeof(float));
    for (int x = 0; x < 3; x++)
      for (int i = 0; i < KEYS * HEADS * DIM; i++) (*tensors[x])[i] = (float)test_random_normal(&r);
    cr_assert_eq(pthread_create(&threads[t], NULL, work, w), 0);
  }
  for (int t = 0; t < THREADS; t++) {
    pthread_join(threads[t], NULL);
    cr_assert_null(workers[t].failure, "thread %d: %s", t, workers[t].failure);
    float *tensors[] = {workers[t].q, workers[t].k, workers[t].v, workers[t].o, workers[t].first};
    for (int x = 0; x < 5; x++) free(tensors[x]);
  }
  spindle_positions_destroy(s.table);
  spindle_context_destroy(s.context);
}
