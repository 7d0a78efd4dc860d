#include "step.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "attend.h"
#include "dtypes.h"

enum { HEADS = 4, KV_HEADS = 2, DIM = 64 };

static void *upload(test_step *s, const void *data, size_t bytes) {
  void *device;
  test_ok(spindle_malloc(s->context, &device, bytes));
  test_ok(spindle_copy(s->context, device, data, bytes, s->stream));
  return device;
}

static void *numbers(test_step *s, test_random *r, size_t count) {
  uint16_t *host = malloc(count * sizeof *host);
  for (size_t x = 0; x < count; x++) test_store(SPINDLE_BF16, &host[x], (float)test_random_normal(r));
  void *device = upload(s, host, count * sizeof *host);
  free(host);
  return device;
}

static void make_tensors(test_step *s) {
  test_random r = {.state = 20};
  size_t keys = (size_t)TEST_STEP_PAGES * TEST_STEP_PAGE * KV_HEADS * DIM, scratch_bytes;
  test_ok(spindle_plan_workspace(s->plan, &s->state_bytes, &scratch_bytes));
  test_ok(spindle_malloc(s->context, &s->state, s->state_bytes));
  s->memory[0] = numbers(s, &r, TEST_STEP_O);
  s->memory[1] = numbers(s, &r, keys);
  s->memory[2] = numbers(s, &r, keys);
  test_ok(spindle_malloc(s->context, &s->memory[3], TEST_STEP_O * sizeof(uint16_t)));
  test_ok(spindle_malloc(s->context, &s->memory[4], TEST_STEP_LSE * sizeof(float)));
  test_ok(spindle_malloc(s->context, &s->memory[5], scratch_bytes));
  s->args = (spindle_attention_args){.struct_size = sizeof s->args,
                                     .q_rows = TEST_STEP_ROWS,
                                     .q = {.data = s->memory[0]},
                                     .o = {.data = s->memory[3]},
                                     .k = {.data = s->memory[1]},
                                     .v = {.data = s->memory[2]},
                                     .lse = {.data = s->memory[4]},
                                     .scratch = s->memory[5],
                                     .scratch_bytes = scratch_bytes};
}

static void make_batch(test_step *s) {
  test_step_lengths none = {0};
  s->lengths = upload(s, &none, sizeof none);
  s->batch = (spindle_batch){.struct_size = sizeof s->batch,
                             .max_requests = TEST_STEP_REQUESTS,
                             .page_size = TEST_STEP_PAGE,
                             .num_pages = TEST_STEP_PAGES,
                             .q_begin = s->lengths->q_begin,
                             .q_len = s->lengths->q_len,
                             .kv_len = s->lengths->kv_len,
                             .n = s->lengths->n,
                             .position = s->lengths->slot,
                             .pages = s->lengths->pages[0],
                             .table_stride = TEST_STEP_ENTRIES};
}

test_step test_step_open(const spindle_plan_options *options) { return test_step_open_on(0, options); }

test_step test_step_open_on(int32_t device, const spindle_plan_options *options) {
  test_step s = {0};
  spindle_context_options cuda = {.struct_size = sizeof cuda, .backend = SPINDLE_BACKEND_CUDA, .device = device};
  spindle_shape shape = {
      .struct_size = sizeof shape, .q_dtype = SPINDLE_BF16, .num_q_heads = HEADS, .num_kv_heads = KV_HEADS, .head_dim_qk = DIM};
  spindle_plan_options o = {0};
  if (options) o = *options;
  o.struct_size = sizeof o;
  o.max_requests = TEST_STEP_REQUESTS;
  o.max_q_rows = TEST_STEP_ROWS;
  o.max_kv_len = TEST_STEP_KEYS;
  o.page_size = TEST_STEP_PAGE;
  test_ok(spindle_context_create(&s.context, &cuda));
  test_ok(spindle_stream_create(s.context, &s.stream));
  test_ok(spindle_positions_create(&s.positions, s.context, &shape, TEST_STEP_SLOTS));
  test_ok(spindle_plan_create(&s.plan, s.context, &shape, &o));
  make_tensors(&s);
  make_batch(&s);
  test_step_clear(&s);
  return s;
}

void test_step_set(test_step *s, const test_step_lengths *lengths) {
  test_ok(spindle_copy(s->context, s->lengths, lengths, sizeof *lengths, s->stream));
}

spindle_status test_step_run(test_step *s) {
  spindle_status status = spindle_plan_prepare(s->plan, s->positions, &s->batch, s->state, s->state_bytes, s->stream);
  return status == SPINDLE_OK ? spindle_attention(s->plan, &s->args, s->stream) : status;
}

void test_step_clear(test_step *s) {
  static const uint16_t o[TEST_STEP_O];
  static const float lse[TEST_STEP_LSE];
  test_ok(spindle_copy(s->context, s->args.o.data, o, sizeof o, s->stream));
  test_ok(spindle_copy(s->context, s->args.lse.data, lse, sizeof lse, s->stream));
}

void test_step_fetch(test_step *s, uint16_t *o, float *lse) {
  test_ok(spindle_copy(s->context, o, s->args.o.data, TEST_STEP_O * sizeof *o, s->stream));
  test_ok(spindle_copy(s->context, lse, s->args.lse.data, TEST_STEP_LSE * sizeof *lse, s->stream));
  test_ok(spindle_stream_sync(s->context, s->stream));
}

void test_step_close(test_step *s) {
  for (size_t m = 0; m < sizeof s->memory / sizeof *s->memory; m++) spindle_free(s->context, s->memory[m]);
  spindle_free(s->context, s->state);
  spindle_free(s->context, s->lengths);
  spindle_plan_destroy(s->plan);
  spindle_positions_destroy(s->positions);
  spindle_stream_destroy(s->context, s->stream);
  spindle_context_destroy(s->context);
}
