/* Batch arrays are device memory that the host never trusts: values out of range are clamped, so that no call reads or writes out
 * of bounds (AddressSanitizer watches buffers of exactly the promised size), and spindle_batch_check names the first one. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/methods.h"

enum { REQUESTS = 3, ROWS = 20, KEYS = 60, PAGE = 8, PAGES = 20, STRIDE = 8, SLOTS = 2, HEADS = 2, DIM = 16 };

typedef struct step {
  spindle_context *context;
  spindle_positions *positions;
  spindle_plan *plan;
  spindle_batch batch;
  spindle_attention_args args;
  void *state;
  size_t state_bytes;
  int32_t *q_begin, *q_len, *kv_len, *position, *kv_begin, *kv_batch, *pages;
  int64_t *q_index, *n, *kv_index, *page_index;
  uint32_t *page_span;
} step;

/* A good batch: three requests of 5 rows over 40 keys. */
static void fill_good(step *s) {
  for (int r = 0; r < REQUESTS; r++) {
    s->q_begin[r] = 5 * r;
    s->q_len[r] = 5;
    s->kv_len[r] = 40;
    s->position[r] = r % SLOTS;
    s->kv_begin[r] = 3;
    s->kv_batch[r] = REQUESTS - 1 - r;
    s->q_index[r] = 35;
    s->n[r] = 40;
    s->kv_index[r] = 0;
    for (int e = 0; e < STRIDE; e++) {
      s->pages[r * STRIDE + e] = (r * 5 + e) % PAGES;
      s->page_index[r * STRIDE + e] = e * PAGE;
      s->page_span[r * STRIDE + e] = (uint32_t)PAGE << 16;
    }
  }
}

static void make_plan(step *s, int32_t backend, bool paged) {
  spindle_shape shape = {
      .struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = HEADS, .num_kv_heads = 1, .head_dim_qk = DIM};
  spindle_context_options options = {.struct_size = sizeof options, .backend = backend, .num_threads = 2};
  spindle_plan_options bounds = {.struct_size = sizeof bounds,
                                 .max_requests = REQUESTS,
                                 .max_q_rows = ROWS,
                                 .max_kv_len = KEYS,
                                 .page_size = paged ? PAGE : 0};
  spindle_position methods[SLOTS] = {test_mask(test_rule(SPINDLE_ROPE_DYNAMIC_NTK, DIM), 1),
                                     test_remap(test_rule(SPINDLE_ROPE_YARN, DIM), SPINDLE_REMAP_DCA)};
  test_ok(spindle_context_create(&s->context, &options));
  test_ok(spindle_positions_create(&s->positions, s->context, &shape, SLOTS));
  for (int i = 0; i < SLOTS; i++) test_ok(spindle_positions_set(s->positions, i, &methods[i], NULL));
  test_ok(spindle_plan_create(&s->plan, s->context, &shape, &bounds));
}

/* Tensors of zeros, workspaces of just the size asked for. */
static void make_args(step *s, bool paged) {
  const size_t rows = ROWS * HEADS * DIM * sizeof(float),
               cache = (size_t)(paged ? PAGES * PAGE : REQUESTS * KEYS) * DIM * sizeof(float);
  size_t scratch_bytes;
  test_ok(spindle_plan_workspace(s->plan, &s->state_bytes, &scratch_bytes));
  s->state = test_memory(s->state_bytes);
  s->args = (spindle_attention_args){.struct_size = sizeof s->args,
                                     .q_rows = ROWS,
                                     .q = {.data = test_memory(rows)},
                                     .o = {.data = test_memory(rows)},
                                     .k = {.data = test_memory(cache)},
                                     .v = {.data = test_memory(cache)},
                                     .scratch = test_memory(scratch_bytes),
                                     .scratch_bytes = scratch_bytes};
  memset(s->args.q.data, 0, rows);
  memset(s->args.k.data, 0, cache);
  memset(s->args.v.data, 0, cache);
}

static void make_arrays(step *s) {
  int32_t **small[] = {&s->q_begin, &s->q_len, &s->kv_len, &s->position, &s->kv_begin, &s->kv_batch};
  int64_t **large[] = {&s->q_index, &s->n, &s->kv_index};
  for (int a = 0; a < 6; a++) *small[a] = test_memory(REQUESTS * sizeof(int32_t));
  for (int a = 0; a < 3; a++) *large[a] = test_memory(REQUESTS * sizeof(int64_t));
  s->pages = test_memory(REQUESTS * STRIDE * sizeof *s->pages);
  s->page_index = test_memory(REQUESTS * STRIDE * sizeof *s->page_index);
  s->page_span = test_memory(REQUESTS * STRIDE * sizeof *s->page_span);
  fill_good(s);
}

static step make_step(int32_t backend, bool paged) {
  step s;
  memset(&s, 0, sizeof s);
  make_plan(&s, backend, paged);
  make_args(&s, paged);
  make_arrays(&s);
  s.batch = (spindle_batch){.struct_size = sizeof s.batch,
                            .max_requests = REQUESTS,
                            .page_size = paged ? PAGE : 0,
                            .num_pages = paged ? PAGES : REQUESTS,
                            .q_begin = s.q_begin,
                            .q_len = s.q_len,
                            .kv_len = s.kv_len,
                            .q_index = s.q_index,
                            .n = s.n,
                            .position = s.position};
  if (paged) {
    s.batch.pages = s.pages;
    s.batch.table_stride = STRIDE;
    s.batch.page_index = s.page_index;
    s.batch.page_span = s.page_span;
  } else {
    s.batch.kv_index = s.kv_index;
    s.batch.kv_begin = s.kv_begin;
    s.batch.kv_batch = s.kv_batch;
  }
  return s;
}

static void free_step(step *s) {
  void *all[] = {s->state,   s->args.scratch, s->args.q.data, s->args.o.data, s->args.k.data, s->args.v.data,
                 s->q_begin, s->q_len,        s->kv_len,      s->position,    s->kv_begin,    s->kv_batch,
                 s->pages,   s->q_index,      s->n,           s->kv_index,    s->page_index,  s->page_span};
  for (size_t a = 0; a < sizeof all / sizeof *all; a++) free(all[a]);
  spindle_plan_destroy(s->plan);
  spindle_positions_destroy(s->positions);
  spindle_context_destroy(s->context);
}

static void run_step(step *s) {
  test_ok(spindle_plan_prepare(s->plan, s->positions, &s->batch, s->state, s->state_bytes, NULL));
  test_ok(spindle_attention(s->plan, &s->args, NULL));
}

/* The message names array, entry, value and a limit. */
static void check_reported(step *s, const char *array, int entry, long long value) {
  char name[60], number[60];
  cr_assert_eq(spindle_batch_check(s->plan, s->positions, &s->batch, NULL), SPINDLE_LIMIT_EXCEEDED, "%s[%d] = %lld passed", array,
               entry, value);
  snprintf(name, sizeof name, "batch.%s", array);
  snprintf(number, sizeof number, "[%d] is %lld, must be in [", entry, value);
  cr_assert(strstr(spindle_last_error(), name) && strstr(spindle_last_error(), number), "%s[%d] = %lld: \"%s\"", array, entry,
            value, spindle_last_error());
}

#define CHECK(array, entry, value)                         \
  do {                                                     \
    fill_good(&s);                                         \
    s.array[entry] = (value);                              \
    check_reported(&s, #array, entry, (long long)(value)); \
    run_step(&s);                                          \
  } while (0)

Test(batch_device_values, dense_arrays_out_of_range_are_named_and_clamped) {
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    step s = make_step(backend, false);
    test_ok(spindle_batch_check(s.plan, s.positions, &s.batch, NULL));
    run_step(&s);
    CHECK(q_begin, 2, ROWS);
    CHECK(q_begin, 0, -1);
    CHECK(q_begin, 1, INT32_MIN);
    CHECK(q_len, 1, ROWS + 1);
    CHECK(q_len, 0, -7);
    CHECK(q_len, 0, INT32_MAX);
    CHECK(kv_len, 2, KEYS + 1);
    CHECK(kv_len, 0, -1);
    CHECK(kv_len, 0, INT32_MAX);
    CHECK(position, 1, SLOTS);
    CHECK(position, 1, -1);
    CHECK(q_index, 0, (int64_t)1 << 40);
    CHECK(q_index, 0, INT64_MAX);
    CHECK(q_index, 0, INT64_MIN);
    CHECK(n, 2, 0);
    CHECK(n, 2, INT64_MIN);
    CHECK(n, 2, INT64_MAX);
    CHECK(kv_index, 0, -1);
    CHECK(kv_index, 0, INT64_MAX);
    CHECK(kv_begin, 1, KEYS + 1);
    CHECK(kv_begin, 1, INT32_MIN);
    CHECK(kv_batch, 1, REQUESTS);
    CHECK(kv_batch, 1, -1);
    free_step(&s);
  }
}

Test(batch_device_values, page_tables_out_of_range_are_named_and_clamped) {
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    step s = make_step(backend, true);
    test_ok(spindle_batch_check(s.plan, s.positions, &s.batch, NULL));
    run_step(&s);
    CHECK(pages, 3, PAGES);
    CHECK(pages, 3, -1);
    CHECK(pages, 0, INT32_MAX);
    CHECK(page_index, 2, 5); /* below the entry before */
    CHECK(page_index, 2, INT64_MAX);
    CHECK(page_index, 0, INT64_MIN);
    fill_good(&s);
    s.page_span[1] = (uint32_t)(PAGE + 1) << 16;
    check_reported(&s, "page_span (end)", 1, PAGE + 1);
    run_step(&s);
    fill_good(&s);
    s.page_span[1] = 5 | 4u << 16;
    check_reported(&s, "page_span (first)", 1, 5);
    run_step(&s);
    fill_good(&s);
    s.page_span[4] = 4u << 16; /* 36 keys where 40 are said to be */
    for (int e = 5; e < STRIDE; e++) s.page_span[e] = 0;
    cr_assert_eq(spindle_batch_check(s.plan, s.positions, &s.batch, NULL), SPINDLE_LIMIT_EXCEEDED);
    cr_assert(strstr(spindle_last_error(), "kv_len[0] is 40") && strstr(spindle_last_error(), "36"), "\"%s\"",
              spindle_last_error());
    run_step(&s);
    free_step(&s);
  }
}

/* A plan's bound may be larger than the tensors of one run: rows from q_rows on are neither read nor written. */
Test(batch_device_values, rows_beyond_the_tensors_are_left_alone) {
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    step s = make_step(backend, false);
    for (int32_t rows = 0; rows <= 15; rows++) {
      size_t bytes = (size_t)rows * HEADS * DIM * sizeof(float);
      void *q = test_memory(bytes), *o = test_memory(bytes);
      memset(q, 0, bytes);
      spindle_attention_args a = s.args;
      a.q_rows = rows;
      a.q.data = q;
      a.o.data = o;
      test_ok(spindle_plan_prepare(s.plan, s.positions, &s.batch, s.state, s.state_bytes, NULL));
      test_ok(spindle_attention(s.plan, &a, NULL));
      for (int32_t x = 0; x < rows * HEADS * DIM; x++) cr_assert_eq(((float *)o)[x], 0);
      free(q);
      free(o);
    }
    free_step(&s);
  }
}

/* Anything at all may lie in device memory. */
static void scribble(test_random *r, void *array, size_t bytes) {
  unsigned char *at = array;
  for (size_t b = 0; b < bytes; b += 4) {
    uint32_t word = test_random_once_in(r, 3) ? (uint32_t)test_random_u64(r) : (uint32_t)test_random_int(r, -2, 70);
    if (!test_random_once_in(r, 4)) memcpy(at + b, &word, 4);
  }
}

Test(batch_device_values, garbage_is_survived) {
  test_random r = test_random_start();
  for (int round = 0; round < 3000; round++) {
    bool paged = round % 2;
    static step steps[2];
    if (round < 2) steps[round] = make_step(SPINDLE_BACKEND_CPU, paged);
    step *s = &steps[paged];
    fill_good(s);
    int32_t *small[] = {s->q_begin, s->q_len, s->kv_len, s->position, s->kv_begin, s->kv_batch};
    int64_t *large[] = {s->q_index, s->n, s->kv_index};
    if (test_random_once_in(&r, 2)) scribble(&r, small[test_random_int(&r, 0, 5)], REQUESTS * sizeof(int32_t));
    if (test_random_once_in(&r, 2)) scribble(&r, large[test_random_int(&r, 0, 2)], REQUESTS * sizeof(int64_t));
    if (test_random_once_in(&r, 3)) scribble(&r, s->pages, REQUESTS * STRIDE * sizeof *s->pages);
    if (test_random_once_in(&r, 3)) scribble(&r, s->page_index, REQUESTS * STRIDE * sizeof *s->page_index);
    if (test_random_once_in(&r, 3)) scribble(&r, s->page_span, REQUESTS * STRIDE * sizeof *s->page_span);
    run_step(s);
    if (round >= 2998) free_step(s);
  }
}
