#include "calls.h"

#include "attend.h"
#include "dtypes.h"

enum { ROWS = TEST_CALLS_ROWS, HEADS = TEST_CALLS_HEADS, DIM = TEST_CALLS_DIM, ELEMENTS = TEST_CALLS_ELEMENTS };

struct test_calls_memory {
  uint16_t k_new[ROWS * DIM], v_new[ROWS * DIM], x[ELEMENTS];
  float part_o[TEST_CALLS_PARTS * ELEMENTS];
  test_calls_numbers numbers;
  test_calls_made made;
};
_Static_assert(sizeof(test_calls_numbers) % 16 == 0, "bases of tensors are multiples of 16 bytes");

static void draw(uint16_t *x, int32_t count, test_random *r) {
  for (int32_t i = 0; i < count; i++) test_store(SPINDLE_BF16, &x[i], (float)test_random_normal(r));
}

static void make_tensors(test_calls *c) {
  static struct test_calls_memory host;
  test_random r = {.state = 30};
  void *device;
  draw(host.k_new, ROWS * DIM, &r);
  draw(host.v_new, ROWS * DIM, &r);
  draw(host.x, ELEMENTS, &r);
  for (int32_t i = 0; i < TEST_CALLS_PARTS * ELEMENTS; i++) host.part_o[i] = (float)test_random_normal(&r);
  test_ok(spindle_malloc(c->context, &device, sizeof host));
  test_ok(spindle_copy(c->context, device, &host, sizeof host, c->stream));
  c->memory = device;
}

static spindle_positions *table_of(const test_calls *c, spindle_position rule) {
  spindle_positions *table;
  rule.struct_size = sizeof rule;
  test_ok(spindle_positions_create(&table, c->context, &c->shape, 1));
  test_ok(spindle_positions_set(table, 0, &rule, c->stream));
  return table;
}

test_calls test_calls_open(int32_t device) {
  test_calls c = {.shape = {.struct_size = sizeof c.shape,
                            .q_dtype = SPINDLE_BF16,
                            .num_q_heads = HEADS,
                            .num_kv_heads = 1,
                            .head_dim_qk = DIM,
                            .key_state = SPINDLE_KEYS_ROTATED}};
  spindle_context_options cuda = {.struct_size = sizeof cuda, .backend = SPINDLE_BACKEND_CUDA, .device = device};
  test_ok(spindle_context_create(&c.context, &cuda));
  test_ok(spindle_stream_create(c.context, &c.stream));
  c.fixed = table_of(&c, (spindle_position){.rope = SPINDLE_ROPE_LINEAR, .factor = 3});
  c.by_n = table_of(&c, (spindle_position){.rope = SPINDLE_ROPE_DYNAMIC_NTK, .factor = 4, .max_position_embeddings = 32});
  make_tensors(&c);
  return c;
}

void test_calls_set(test_calls *c, const test_calls_numbers *numbers) {
  static const test_calls_made none;
  test_ok(spindle_copy(c->context, &c->memory->numbers, numbers, sizeof *numbers, c->stream));
  test_ok(spindle_copy(c->context, &c->memory->made, &none, sizeof none, c->stream));
}

void test_calls_run(test_calls *c) {
  struct test_calls_memory *m = c->memory; /* only addresses are taken from it */
  spindle_append_args append = {.struct_size = sizeof append,
                                .rows = ROWS,
                                .page_size = TEST_CALLS_SLOTS,
                                .num_pages = 1,
                                .k_new = {.data = m->k_new},
                                .v_new = {.data = m->v_new},
                                .k = {.data = m->made.k},
                                .v = {.data = m->made.v},
                                .slot = m->numbers.slot,
                                .index = m->numbers.index};
  spindle_rotate_args rotate = {.struct_size = sizeof rotate,
                                .rows = ROWS,
                                .heads = HEADS,
                                .x = {.data = m->x},
                                .out = {.data = m->made.rotated},
                                .index = m->numbers.index,
                                .n = m->numbers.n};
  spindle_combine_args combine = {.struct_size = sizeof combine,
                                  .parts = TEST_CALLS_PARTS,
                                  .rows = ROWS,
                                  .num_q_heads = HEADS,
                                  .head_dim_v = DIM,
                                  .part_o = {.data = m->part_o},
                                  .part_o_stride = ELEMENTS,
                                  .part_lse = {.data = m->numbers.part_lse[0]},
                                  .part_lse_stride = TEST_CALLS_HEAD_ROWS,
                                  .o = {.data = m->made.o},
                                  .lse = {.data = m->made.lse}};
  test_ok(spindle_append(c->context, &c->shape, c->fixed, &append, c->stream));
  test_ok(spindle_rotate(c->context, &c->shape, c->by_n, &rotate, c->stream));
  test_ok(spindle_combine(c->context, &combine, c->stream));
}

void test_calls_fetch(test_calls *c, test_calls_made *made) {
  test_ok(spindle_copy(c->context, made, &c->memory->made, sizeof *made, c->stream));
  test_ok(spindle_stream_sync(c->context, c->stream));
}

void test_calls_close(test_calls *c) {
  spindle_free(c->context, c->memory);
  spindle_positions_destroy(c->fixed);
  spindle_positions_destroy(c->by_n);
  spindle_stream_destroy(c->context, c->stream);
  spindle_context_destroy(c->context);
}
