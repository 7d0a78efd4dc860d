/* spindle_attention: the items over the threads, then the merging of what was split. */
#include <math.h>
#include <omp.h>

#include "cpu.h"

/* The request that item x belongs to: the last whose first item is not after it. */
static const spindle__cpu_request *request_of(const spindle__cpu_run *run, int64_t x) {
  int32_t low = 0, high = run->state->num_requests;
  while (high - low > 1) {
    int32_t middle = low + (high - low) / 2;
    if (run->requests[middle].work.first_item <= x)
      low = middle;
    else
      high = middle;
  }
  return &run->requests[low];
}

/* Splits are merged from the first to the last, whoever made them: the bits are the same. */
static void merge_splits(const spindle__cpu_run *run, const spindle__cpu_request *r, int64_t row_and_head) {
  int32_t heads = run->plan->shape.num_q_heads, stride = run->layout.o_stride, splits = r->work.num_splits;
  int32_t row = (int32_t)(row_and_head / heads), head = (int32_t)(row_and_head % heads);
  float o[SPINDLE__MAX_HEAD_DIM], m = -INFINITY, l = 0;
  int64_t at = r->work.first_partial + row_and_head * splits;
  spindle__cpu_sums all = {o, &m, &l};
  for (int32_t c = 0; c < stride; c++) o[c] = 0;
  for (int32_t s = 0; s < splits; s++) {
    spindle__cpu_sums part = {run->partial_o + (at + s) * stride, run->partial_m + at + s, run->partial_l + at + s};
    spindle__cpu_merge(&all, &part, 1, stride);
  }
  spindle__cpu_finish_row(run, r, row, head, o, m, l);
}

static void run_items(const spindle__cpu_run *run) {
#pragma omp parallel num_threads(run->plan->context->num_threads)
  {
    char *thread_scratch = (char *)run->args->scratch + (size_t)omp_get_thread_num() * run->layout.thread_bytes;
#pragma omp for schedule(dynamic, 1)
    for (int64_t x = 0; x < run->state->num_items; x++) {
      const spindle__cpu_request *r = request_of(run, x);
      spindle__item item = spindle__work_item(&run->layout.schedule, &r->work, run->tiles, x - r->work.first_item);
      spindle__cpu_run_item(run, r, &item, thread_scratch);
    }
    for (int32_t k = 0; run->state->num_partials && k < run->state->num_requests; k++) {
      const spindle__cpu_request *r = &run->requests[k];
      int64_t rows = r->work.num_splits > 1 ? (int64_t)r->request.q_len * run->plan->shape.num_q_heads : 0;
#pragma omp for schedule(static) nowait
      for (int64_t x = 0; x < rows; x++) merge_splits(run, r, x);
    }
  }
}

spindle_status spindle__cpu_attention(const spindle_plan *plan, const spindle_attention_args *args, spindle_stream stream) {
  (void)stream;
  spindle__cpu_run run = {.plan = plan, .args = args, .kernels = spindle__cpu_kernels_get()};
  spindle__cpu_layout_of(plan, &run.layout);
  const char *state = plan->state;
  char *scratch = args->scratch;
  run.state = plan->state;
  run.requests = (const void *)(state + run.layout.requests);
  run.tiles = (const void *)(state + run.layout.tiles);
  run.partial_o = (void *)(scratch + run.layout.partial_o);
  run.partial_m = (void *)(scratch + run.layout.partial_m);
  run.partial_l = (void *)(scratch + run.layout.partial_l);
  run_items(&run);
  return SPINDLE_OK;
}
