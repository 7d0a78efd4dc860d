/* Tensors pass 2^31 elements: offsets are 64 bits wide everywhere. Memory of which only the rows in use are touched. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/dtypes.h"
#include "support/methods.h"

enum { PAGE = 4, PAGES = 3, KEYS = PAGE * PAGES, ROWS = 20, HEADS = 2, DIM = 64, ELEMENT = 2 };
#define FAR (((int64_t)1 << 31) + 64)

/* Strides in elements. */
typedef struct placement {
  int64_t page, row, head, q_row;
} placement;

static void put(char *to, int tensor, int64_t row, int head) {
  for (int c = 0; c < DIM; c++)
    test_store(SPINDLE_BF16, to + (size_t)c * ELEMENT,
               (float)((tensor * 7919 + row * 104729 + head * 31 + c * 17) % 101) / 50.0f - 1.0f);
}

/* The emulated device's memory is the host's. */
static void fill(char *q, char *k, char *v, const placement *p) {
  for (int64_t i = 0; i < ROWS; i++)
    for (int h = 0; h < HEADS; h++) put(q + (i * p->q_row + h * DIM) * ELEMENT, 0, i, h);
  for (int64_t j = 0; j < KEYS; j++)
    for (int h = 0; h < HEADS; h++) {
      int64_t at = (PAGES - 1 - j / PAGE) * p->page + j % PAGE * p->row + h * p->head;
      put(k + at * ELEMENT, 1, j, h);
      put(v + at * ELEMENT, 2, j, h);
    }
}

static void *allocate(spindle_context *context, int64_t elements) {
  void *memory = NULL;
  test_ok(spindle_malloc(context, &memory, (size_t)elements * ELEMENT));
  return memory;
}

static void *upload(spindle_context *context, const int32_t *from, size_t count) {
  void *memory = NULL;
  test_ok(spindle_malloc(context, &memory, count * sizeof *from));
  test_ok(spindle_copy(context, memory, from, count * sizeof *from, NULL));
  return memory;
}

static void run(placement p, int32_t schedule, uint16_t *o) {
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CUDA};
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_BF16, .num_q_heads = HEADS, .head_dim_qk = DIM};
  spindle_plan_options bounds = {.struct_size = sizeof bounds,
                                 .max_requests = 1,
                                 .max_q_rows = ROWS,
                                 .page_size = PAGE,
                                 .max_kv_len = KEYS,
                                 .schedule = schedule};
  spindle_position position = test_rule(SPINDLE_ROPE_DEFAULT, DIM);
  spindle_context *context;
  spindle_positions *table;
  spindle_plan *plan;
  void *state, *scratch;
  size_t state_bytes, scratch_bytes;
  test_ok(spindle_context_create(&context, &options));
  test_ok(spindle_positions_create(&table, context, &shape, 1));
  test_ok(spindle_positions_set(table, 0, &position, NULL));
  test_ok(spindle_plan_create(&plan, context, &shape, &bounds));
  test_ok(spindle_plan_workspace(plan, &state_bytes, &scratch_bytes));
  test_ok(spindle_malloc(context, &state, state_bytes));
  test_ok(spindle_malloc(context, &scratch, scratch_bytes));
  int64_t q_count = (ROWS - 1) * p.q_row + HEADS * DIM,
          kv_count = (PAGES - 1) * p.page + (PAGE - 1) * p.row + (HEADS - 1) * p.head + DIM;
  char *q = allocate(context, q_count), *k = allocate(context, kv_count), *v = allocate(context, kv_count),
       *out = allocate(context, q_count);
  int32_t *numbers = upload(context, (int32_t[]){0, ROWS, KEYS, 2, 1, 0}, 6);
  fill(q, k, v, &p);
  spindle_batch batch = {.struct_size = sizeof batch,
                         .max_requests = 1,
                         .page_size = PAGE,
                         .num_pages = PAGES,
                         .q_begin = numbers,
                         .q_len = numbers + 1,
                         .kv_len = numbers + 2,
                         .pages = numbers + 3,
                         .table_stride = PAGES};
  spindle_attention_args args = {.struct_size = sizeof args,
                                 .q_rows = ROWS,
                                 .q = {q, 0, p.q_row, DIM},
                                 .o = {out, 0, p.q_row, DIM},
                                 .k = {k, p.page, p.row, p.head, NULL, 0},
                                 .v = {v, p.page, p.row, p.head, NULL, 0},
                                 .scratch = scratch,
                                 .scratch_bytes = scratch_bytes};
  test_ok(spindle_plan_prepare(plan, table, &batch, state, state_bytes, NULL));
  test_ok(spindle_attention(plan, &args, NULL));
  test_ok(spindle_stream_sync(context, NULL));
  for (int i = 0; i < ROWS; i++) memcpy(o + i * HEADS * DIM, out + i * p.q_row * ELEMENT, HEADS * DIM * ELEMENT);
  void *memory[] = {state, scratch, q, k, v, out, numbers};
  for (size_t m = 0; m < sizeof memory / sizeof *memory; m++) spindle_free(context, memory[m]);
  spindle_plan_destroy(plan);
  spindle_positions_destroy(table);
  spindle_context_destroy(context);
}

Test(prefill_far, offsets_beyond_2_31_elements) {
  static const placement packed = {PAGE * HEADS * DIM, HEADS * DIM, DIM, HEADS * DIM};
  static const placement large[] = {
      {FAR, HEADS * DIM, DIM, HEADS * DIM},            /* pages */
      {HEADS * DIM, FAR / 2, DIM, HEADS * DIM},        /* rows */
      {PAGE * DIM, DIM, FAR, HEADS * DIM},             /* heads: [Hkv][pages][rows] */
      {PAGE * HEADS * DIM, HEADS * DIM, DIM, FAR / 8}, /* rows of Q and O */
  };
  for (int32_t schedule = SPINDLE_SCHEDULE_IN_LOOP; schedule <= SPINDLE_SCHEDULE_PREROTATE; schedule++) {
    uint16_t want[ROWS * HEADS * DIM], got[ROWS * HEADS * DIM];
    run(packed, schedule, want);
    for (size_t l = 0; l < sizeof large / sizeof *large; l++) {
      run(large[l], schedule, got);
      cr_assert(!memcmp(got, want, sizeof got), "strides %zu, schedule %d", l, schedule);
    }
  }
}
