#include "paged.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtypes.h"
#include "halves.h"

enum { SLOTS = TEST_PAGED_PAGES * TEST_PAGED_PAGE };

/* ---- The step ---- */

/* Memory on the device as the emulator makes it: NaN. */
static void *device_memory(test_paged *p, size_t bytes) {
  void *host = test_memory(bytes), *device = test_mirror_in(&p->mirror, host, bytes);
  free(host);
  return device;
}

static void make_plan(test_paged *p) {
  spindle_plan_options bounds = {.struct_size = sizeof bounds,
                                 .max_requests = TEST_PAGED_REQUESTS,
                                 .max_q_rows = TEST_PAGED_ROWS,
                                 .max_kv_len = TEST_PAGED_KEYS,
                                 .page_size = TEST_PAGED_PAGE,
                                 .split_keys = p->setup.split_keys,
                                 .schedule = p->setup.schedule};
  test_ok(spindle_positions_create(&p->positions, p->context, &p->setup.shape, TEST_PAGED_REQUESTS));
  test_ok(spindle_plan_create(&p->plan, p->context, &p->setup.shape, &bounds));
  test_ok(spindle_plan_workspace(p->plan, &p->state_bytes, &p->args.scratch_bytes));
  p->state = device_memory(p, p->state_bytes);
  p->args.scratch = device_memory(p, p->args.scratch_bytes);
}

static void make_tensors(test_random *r, test_paged *p) {
  const spindle_shape *s = &p->setup.shape;
  const size_t element = test_dtype_bytes(s->q_dtype), rows = (size_t)(TEST_PAGED_ROWS * s->num_q_heads),
               keys = (size_t)(SLOTS * s->num_kv_heads);
  char *q = device_memory(p, rows * (size_t)s->head_dim_qk * element);
  for (size_t x = 0; x < rows * (size_t)s->head_dim_qk; x++)
    test_store(s->q_dtype, q + x * element, (float)test_random_normal(r));
  p->args.q.data = q;
  p->args.k.data = device_memory(p, keys * (size_t)s->head_dim_qk * element);
  p->args.v.data = device_memory(p, keys * (size_t)s->head_dim_v * element);
  p->args.o.data = device_memory(p, rows * (size_t)s->head_dim_v * test_dtype_bytes(s->o_dtype));
  p->args.lse.data = device_memory(p, rows * sizeof(float));
  p->args.sink_logits = test_mirror_in(&p->mirror, p->setup.args.sink_logits, (size_t)s->num_q_heads * sizeof(float));
  p->k = test_memory(keys * (size_t)s->head_dim_qk * sizeof(float));
  p->v = test_memory(keys * (size_t)s->head_dim_v * sizeof(float));
}

test_paged test_paged_open(test_random *r, const test_setup *setup) {
  test_paged p = {.setup = *setup, .args = {.struct_size = sizeof p.args, .q_rows = TEST_PAGED_ROWS}};
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CUDA};
  p.setup.shape = test_shape(setup->shape);
  test_ok(spindle_context_create(&p.context, &options));
  p.mirror = test_mirror_open(p.context);
  make_plan(&p);
  make_tensors(r, &p);
  p.batch = device_memory(&p, sizeof *p.batch);
  for (int32_t x = 0; x < TEST_PAGED_REQUESTS; x++) {
    p.batch->q_begin[x] = p.batch->q_len[x] = p.batch->kv_len[x] = 0;
    p.batch->q_index[x] = p.batch->n[x] = 0;
    p.batch->position[x] = x;
  }
  return p;
}

void test_paged_close(test_paged *p) {
  test_mirror_close(&p->mirror);
  free(p->k);
  free(p->v);
  spindle_plan_destroy(p->plan);
  spindle_positions_destroy(p->positions);
  spindle_context_destroy(p->context);
}

void test_paged_set(test_paged *p, int32_t slot, spindle_position position) {
  position.struct_size = sizeof position;
  p->position[slot] = position;
  test_ok(spindle_positions_set(p->positions, slot, &position, NULL));
}

void test_paged_append(test_paged *p, test_random *r, const int64_t *slot, int32_t count) {
  const spindle_shape *s = &p->setup.shape;
  const size_t element = test_dtype_bytes(s->q_dtype), units = (size_t)(count * s->num_kv_heads);
  const int32_t dims[] = {s->head_dim_qk, s->head_dim_v};
  float *const to[] = {p->k, p->v};
  test_mirror m = test_mirror_open(p->context);
  spindle_append_args a = {.struct_size = sizeof a,
                           .rows = count,
                           .page_size = TEST_PAGED_PAGE,
                           .num_pages = TEST_PAGED_PAGES,
                           .k = p->args.k,
                           .v = p->args.v};
  for (int t = 0; t < 2; t++) {
    const int64_t row = (int64_t)s->num_kv_heads * dims[t];
    char *rows = test_memory(units * (size_t)dims[t] * element);
    for (int64_t x = 0; x < count * row; x++) {
      const float value = (float)test_random_normal(r);
      to[t][slot[x / row] * row + x % row] = value;
      test_store(s->q_dtype, rows + (size_t)x * element, value);
    }
    *(t ? &a.v_new.data : &a.k_new.data) = test_mirror_in(&m, rows, units * (size_t)dims[t] * element);
    free(rows);
  }
  a.slot = test_mirror_in(&m, slot, (size_t)count * sizeof *slot);
  test_ok(spindle_append(p->context, s, NULL, &a, NULL));
  test_mirror_fetch(&m, NULL);
  test_mirror_close(&m);
}

void test_paged_entry(test_paged *p, int32_t request, int32_t e, int32_t page, int32_t first, int32_t end, int64_t index) {
  p->batch->pages[request][e] = page;
  p->batch->page_index[request][e] = index;
  p->batch->page_span[request][e] = (uint32_t)first | (uint32_t)end << 16;
}

static void run(test_paged *p) {
  const test_paged_batch *b = p->batch;
  const spindle_batch batch = {.struct_size = sizeof batch,
                               .max_requests = TEST_PAGED_REQUESTS,
                               .page_size = TEST_PAGED_PAGE,
                               .num_pages = TEST_PAGED_PAGES,
                               .q_begin = b->q_begin,
                               .q_len = b->q_len,
                               .kv_len = b->kv_len,
                               .q_index = b->q_index,
                               .n = b->n,
                               .position = b->position,
                               .pages = b->pages[0],
                               .table_stride = TEST_PAGED_ENTRIES,
                               .page_index = b->page_index[0],
                               .page_span = b->page_span[0]};
  test_ok(spindle_batch_check(p->plan, p->positions, &batch, NULL));
  test_ok(spindle_plan_prepare(p->plan, p->positions, &batch, p->state, p->state_bytes, NULL));
  test_ok(spindle_attention(p->plan, &p->args, NULL));
  test_ok(spindle_stream_sync(p->context, NULL));
}

/* ---- The reference ---- */

/* The request with its text's keys, as the table says. Its key_index is the caller's to free. */
static test_request request_of(const test_paged *p, int32_t number) {
  const test_paged_batch *b = p->batch;
  const spindle_shape *s = &p->setup.shape;
  const int32_t keys = b->kv_len[number], rows = b->q_len[number];
  const size_t k_row = (size_t)(s->num_kv_heads * s->head_dim_qk), v_row = (size_t)(s->num_kv_heads * s->head_dim_v),
               q_row = (size_t)(s->num_q_heads * s->head_dim_qk), element = test_dtype_bytes(s->q_dtype);
  test_random unused = {0, 0};
  test_request q = test_request_make(&unused, s, p->position[b->position[number]], rows, keys, 1);
  int64_t *index = malloc((size_t)(keys + 1) * sizeof *index);
  q.key_index = index;
  q.q_index = b->q_index[number];
  q.n = b->n[number];
  for (size_t x = 0; x < (size_t)rows * q_row; x++)
    q.q[x] = test_load(s->q_dtype, (const char *)p->args.q.data + ((size_t)b->q_begin[number] * q_row + x) * element);
  for (int32_t e = 0, key = 0; key < keys; e++)
    for (uint32_t at = b->page_span[number][e] & 0xffff; at < b->page_span[number][e] >> 16 && key < keys; at++, key++) {
      const size_t slot = (size_t)b->pages[number][e] * TEST_PAGED_PAGE + at;
      index[key] = b->page_index[number][e] + at;
      memcpy(q.k + (size_t)key * k_row, p->k + slot * k_row, k_row * sizeof *q.k);
      memcpy(q.v + (size_t)key * v_row, p->v + slot * v_row, v_row * sizeof *q.v);
    }
  return q;
}

void test_paged_row(const test_paged *p, int64_t row, float *o, float *lse) {
  const spindle_shape *s = &p->setup.shape;
  const size_t element = test_dtype_bytes(s->o_dtype);
  for (int32_t c = 0; c < s->head_dim_v; c++)
    o[c] = test_load(s->o_dtype, (const char *)p->args.o.data + ((size_t)(row * s->head_dim_v) + (size_t)c) * element);
  *lse = p->args.lse.data[row];
}

static double check_request(const char *what, const test_paged *p, int32_t number) {
  const spindle_shape *s = &p->setup.shape;
  test_setup oracle = {
      .backend = SPINDLE_BACKEND_REFERENCE, .shape = *s, .page_size = TEST_PAGED_PAGE, .spans = true, .args = p->setup.args};
  test_request want = request_of(p, number), got = test_request_copy(&want, s);
  char text[300];
  double squares = 0;
  oracle.shape.o_dtype = SPINDLE_F32;
  test_attend(&oracle, &want, 1);
  for (int64_t x = 0; x < (int64_t)want.q_len * s->num_q_heads; x++)
    test_paged_row(p, (int64_t)p->batch->q_begin[number] * s->num_q_heads + x, got.o + x * s->head_dim_v, &got.lse[x]);
  snprintf(text, sizeof text, "%s, request %d", what, number);
  test_halves_close(text, &p->setup, &got, &want);
  for (int64_t x = 0; x < (int64_t)want.q_len * s->num_q_heads * s->head_dim_v; x++)
    squares += pow((double)got.o[x] - (double)want.o[x], 2);
  free((void *)(uintptr_t)want.key_index);
  test_request_free(&want);
  test_request_free(&got);
  return squares;
}

double test_paged_check(const char *what, test_paged *p) {
  double squares = 0, rows = 0;
  run(p);
  for (int32_t x = 0; x < TEST_PAGED_REQUESTS; x++) {
    if (!p->batch->q_len[x]) continue;
    squares += check_request(what, p, x);
    rows += p->batch->q_len[x];
  }
  return sqrt(squares / (rows * p->setup.shape.num_q_heads * p->setup.shape.head_dim_v));
}
