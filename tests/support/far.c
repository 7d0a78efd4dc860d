#include "far.h"

#include <criterion/criterion.h>
#include <string.h>

#include "attend.h"
#include "dtypes.h"
#include "methods.h"

enum { MOST_PAGE = 64, PAGES = 3, HEADS = 2, DIM = 64, ROW = HEADS * DIM, MOST_ROWS = 20, ELEMENT = 2 };
#define FAR (((int64_t)1 << 31) + 2048)

/* Strides in elements: of K and V; of Q and O; of LSE. */
typedef struct placement {
  int64_t page, row, head, q_row, lse_row;
} placement;

typedef struct result {
  uint16_t o[MOST_ROWS][ROW];
  float lse[MOST_ROWS][HEADS];
} result;

static void put(char *to, int tensor, int64_t row, int head) {
  for (int c = 0; c < DIM; c++)
    test_store(SPINDLE_BF16, to + (size_t)c * ELEMENT,
               (float)((tensor * 7919 + row * 104729 + head * 31 + c * 17) % 101) / 50.0f - 1.0f);
}

static void *allocate(spindle_context *context, int64_t elements) {
  void *memory = NULL;
  test_ok(spindle_malloc(context, &memory, (size_t)elements * ELEMENT));
  return memory;
}

static void *upload(spindle_context *context, const void *from, size_t bytes) {
  void *memory = NULL;
  test_ok(spindle_malloc(context, &memory, bytes));
  test_ok(spindle_copy(context, memory, from, bytes, NULL));
  return memory;
}

static int32_t keys_of(const test_far *f) { return PAGES * f->page_size; }

/* Of key j: pages are in backward order. */
static int64_t slot_of(const test_far *f, int64_t j) { return (PAGES - 1 - j / f->page_size) * f->page_size + j % f->page_size; }

/* The emulated device's memory is the host's. */
static void fill(char *q, char *k, char *v, const test_far *f, const placement *p) {
  for (int64_t i = 0; i < f->rows; i++)
    for (int h = 0; h < HEADS; h++) put(q + (i * p->q_row + h * DIM) * ELEMENT, 0, i, h);
  for (int64_t j = 0; j < keys_of(f) && !f->appended; j++)
    for (int h = 0; h < HEADS; h++) {
      int64_t at = slot_of(f, j) / f->page_size * p->page + slot_of(f, j) % f->page_size * p->row + h * p->head;
      put(k + at * ELEMENT, 1, j, h);
      put(v + at * ELEMENT, 2, j, h);
    }
}

static void append(spindle_context *context, const spindle_shape *shape, const spindle_attention_args *to, const test_far *f) {
  static char rows[2][PAGES * MOST_PAGE][HEADS][DIM * ELEMENT];
  int64_t slot[PAGES * MOST_PAGE];
  for (int64_t j = 0; j < keys_of(f); j++) {
    slot[j] = slot_of(f, j);
    for (int x = 0; x < 2; x++)
      for (int h = 0; h < HEADS; h++) put(rows[x][j][h], 1 + x, j, h);
  }
  void *memory[] = {upload(context, rows[0], sizeof rows[0]), upload(context, rows[1], sizeof rows[1]),
                    upload(context, slot, sizeof slot)};
  spindle_append_args a = {
      .struct_size = sizeof a, .rows = keys_of(f), .page_size = f->page_size, .num_pages = PAGES, .k = to->k, .v = to->v};
  a.k_new.data = memory[0];
  a.v_new.data = memory[1];
  a.slot = memory[2];
  test_ok(spindle_append(context, shape, NULL, &a, NULL));
  test_ok(spindle_stream_sync(context, NULL));
  for (int m = 0; m < 3; m++) spindle_free(context, memory[m]);
}

/* Tensors in args, made and filled. */
static void run_prepared(spindle_context *context, const spindle_shape *shape, const spindle_plan *plan,
                         spindle_attention_args *args, const test_far *f, const placement *p, result *out) {
  int64_t q_count = (f->rows - 1) * p->q_row + ROW, lse_count = (f->rows - 1) * p->lse_row + HEADS,
          kv_count = (PAGES - 1) * p->page + (f->page_size - 1) * p->row + (HEADS - 1) * p->head + DIM;
  char *q = allocate(context, q_count), *k = allocate(context, kv_count), *v = allocate(context, kv_count),
       *o = allocate(context, q_count);
  float *lse = allocate(context, 2 * lse_count);
  args->q_rows = f->rows;
  args->q = (spindle_rows){q, 0, p->q_row, DIM};
  args->o = (spindle_rows){o, 0, p->q_row, DIM};
  args->k = (spindle_cache){k, p->page, p->row, p->head, NULL, 0};
  args->v = (spindle_cache){v, p->page, p->row, p->head, NULL, 0};
  args->lse = (spindle_lse){lse, 0, p->lse_row, 1};
  fill(q, k, v, f, p);
  if (f->appended) append(context, shape, args, f);
  test_ok(spindle_attention(plan, args, NULL));
  test_ok(spindle_stream_sync(context, NULL));
  for (int64_t i = 0; i < f->rows; i++) {
    memcpy(out->o[i], o + i * p->q_row * ELEMENT, sizeof out->o[i]);
    memcpy(out->lse[i], lse + i * p->lse_row, sizeof out->lse[i]);
  }
  void *memory[] = {q, k, v, o, lse};
  for (size_t m = 0; m < sizeof memory / sizeof *memory; m++) spindle_free(context, memory[m]);
}

static void run(const test_far *f, const placement *p, result *out) {
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CUDA};
  spindle_shape shape = test_shape((spindle_shape){.q_dtype = SPINDLE_BF16, .num_q_heads = HEADS, .head_dim_qk = DIM});
  spindle_plan_options bounds = {.struct_size = sizeof bounds,
                                 .max_requests = 1,
                                 .max_q_rows = f->rows,
                                 .page_size = f->page_size,
                                 .max_kv_len = keys_of(f),
                                 .schedule = f->schedule,
                                 .split_keys = f->split_keys};
  const int32_t numbers[] = {0, f->rows, keys_of(f), 2, 1, 0};
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
  int32_t *lengths = upload(context, numbers, sizeof numbers);
  spindle_batch batch = {.struct_size = sizeof batch,
                         .max_requests = 1,
                         .page_size = f->page_size,
                         .num_pages = PAGES,
                         .q_begin = lengths,
                         .q_len = lengths + 1,
                         .kv_len = lengths + 2,
                         .pages = lengths + 3,
                         .table_stride = PAGES};
  spindle_attention_args args = {.struct_size = sizeof args, .scratch = scratch, .scratch_bytes = scratch_bytes};
  test_ok(spindle_plan_prepare(plan, table, &batch, state, state_bytes, NULL));
  run_prepared(context, &shape, plan, &args, f, p, out);
  spindle_free(context, state);
  spindle_free(context, scratch);
  spindle_free(context, lengths);
  spindle_plan_destroy(plan);
  spindle_positions_destroy(table);
  spindle_context_destroy(context);
}

void test_far_check(const test_far *f) {
  const int64_t page = f->page_size;
  const placement packed = {page * ROW, ROW, DIM, ROW, HEADS};
  const placement far[] = {{FAR, ROW, DIM, ROW, HEADS},
                           {ROW, 2 * FAR / page, DIM, ROW, HEADS},
                           {page * DIM, DIM, FAR, ROW, HEADS}, /* [Hkv][pages][rows] */
                           {page * ROW, ROW, DIM, FAR / 8, FAR / 8}};
  static result want, got;
  test_far filled = *f;
  filled.appended = false;
  run(&filled, &packed, &want);
  for (size_t x = 0; x < sizeof far / sizeof *far; x++) {
    run(f, &far[x], &got);
    cr_assert(!memcmp(&got, &want, sizeof got), "strides %zu, %d rows, pages of %d, schedule %d, split_keys %d, appended %d", x,
              f->rows, f->page_size, f->schedule, f->split_keys, f->appended);
  }
}
