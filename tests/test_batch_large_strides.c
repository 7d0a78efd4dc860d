/* Caches pass 2^31 elements: offsets are 64 bits wide everywhere. Sparse memory, of which only the rows in use exist. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "support/attend.h"
#include "support/methods.h"

enum { PAGE = 4, PAGES = 3, KEYS = 12, ROWS = 3, HEADS = 2, DIM = 16 };

/* All strides in elements of 4 bytes. */
typedef struct placement {
  int64_t page, row, head, q_row;
} placement;

static float *map(int64_t elements) {
  void *memory =
      mmap(NULL, (size_t)elements * sizeof(float), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

static float value(int tensor, int64_t row, int head, int c) {
  return (float)((tensor * 7919 + row * 104729 + head * 31 + c * 17) % 101) / 50.0f - 1.0f;
}

static void fill(float *to, int tensor, const placement *p) {
  for (int64_t j = 0; j < KEYS; j++)
    for (int h = 0; h < HEADS; h++)
      for (int c = 0; c < DIM; c++)
        to[(PAGES - 1 - j / PAGE) * p->page + j % PAGE * p->row + h * p->head + c] = value(tensor, j, h, c);
}

/* O of a call over tensors with these strides; false where the machine has no such address space. */
static bool run(int32_t backend, placement p, float *o) {
  int64_t q_count = (ROWS - 1) * p.q_row + HEADS * DIM,
          kv_count = (PAGES - 1) * p.page + (PAGE - 1) * p.row + (HEADS - 1) * p.head + DIM;
  float *q = map(q_count), *k = map(kv_count), *v = map(kv_count), *out = map(q_count);
  if (!q || !k || !v || !out) return false;
  for (int64_t i = 0; i < ROWS; i++)
    for (int c = 0; c < HEADS * DIM; c++) q[i * p.q_row + c] = value(0, i, c / DIM, c % DIM);
  fill(k, 1, &p);
  fill(v, 2, &p);

  spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
  spindle_shape shape = {.struct_size = sizeof shape, .q_dtype = SPINDLE_F32, .num_q_heads = HEADS, .head_dim_qk = DIM};
  spindle_plan_options bounds = {
      .struct_size = sizeof bounds, .max_requests = 1, .max_q_rows = ROWS, .page_size = PAGE, .max_kv_len = KEYS};
  spindle_position position = test_rule(SPINDLE_ROPE_DEFAULT, DIM);
  const int32_t zero = 0, rows = ROWS, keys = KEYS, pages[PAGES] = {2, 1, 0};
  spindle_batch batch = {.struct_size = sizeof batch,
                         .max_requests = 1,
                         .page_size = PAGE,
                         .num_pages = PAGES,
                         .q_begin = &zero,
                         .q_len = &rows,
                         .kv_len = &keys,
                         .pages = pages,
                         .table_stride = PAGES};
  spindle_context *context;
  spindle_positions *table;
  spindle_plan *plan;
  size_t state_bytes, scratch_bytes;
  test_ok(spindle_context_create(&context, &options));
  test_ok(spindle_positions_create(&table, context, &shape, 1));
  test_ok(spindle_positions_set(table, 0, &position, NULL));
  test_ok(spindle_plan_create(&plan, context, &shape, &bounds));
  test_ok(spindle_plan_workspace(plan, &state_bytes, &scratch_bytes));
  void *state = test_memory(state_bytes), *scratch = test_memory(scratch_bytes);
  test_ok(spindle_plan_prepare(plan, table, &batch, state, state_bytes, NULL));
  spindle_attention_args args = {.struct_size = sizeof args,
                                 .q_rows = ROWS,
                                 .q = {q, 0, p.q_row, DIM},
                                 .o = {out, 0, p.q_row, DIM},
                                 .k = {k, p.page, p.row, p.head, NULL, 0},
                                 .v = {v, p.page, p.row, p.head, NULL, 0},
                                 .scratch = scratch,
                                 .scratch_bytes = scratch_bytes};
  test_ok(spindle_attention(plan, &args, NULL));
  for (int i = 0; i < ROWS; i++) memcpy(o + i * HEADS * DIM, out + i * p.q_row, HEADS * DIM * sizeof *o);
  free(state);
  free(scratch);
  munmap(q, (size_t)q_count * sizeof *q);
  munmap(out, (size_t)q_count * sizeof *q);
  munmap(k, (size_t)kv_count * sizeof *q);
  munmap(v, (size_t)kv_count * sizeof *q);
  spindle_plan_destroy(plan);
  spindle_positions_destroy(table);
  spindle_context_destroy(context);
  return true;
}

Test(batch_large_strides, offsets_beyond_2_31_elements) {
  static const placement packed = {PAGE * HEADS * DIM, HEADS * DIM, DIM, HEADS * DIM};
  static const placement large[] = {
      {((int64_t)1 << 31) + 64, HEADS * DIM, DIM, HEADS * DIM},             /* pages */
      {((int64_t)1 << 32) + 64, ((int64_t)1 << 30) + 32, DIM, HEADS * DIM}, /* rows */
      {PAGE * DIM, DIM, ((int64_t)1 << 32) + 16, HEADS * DIM},              /* heads: [Hkv][pages][rows] */
      {PAGE * HEADS * DIM, HEADS * DIM, DIM, ((int64_t)1 << 31) + 64},      /* rows of Q and O */
  };
  for (int32_t backend = SPINDLE_BACKEND_CPU; backend <= SPINDLE_BACKEND_REFERENCE; backend++) {
    float want[ROWS * HEADS * DIM], got[ROWS * HEADS * DIM];
    cr_assert(run(backend, packed, want));
    for (size_t l = 0; l < sizeof large / sizeof *large; l++) {
      if (!run(backend, large[l], got)) cr_skip_test("no address space for 2^33 elements");
      test_same_bits("large strides", got, want, ROWS * HEADS * DIM);
    }
  }
}
