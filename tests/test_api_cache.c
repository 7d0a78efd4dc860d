/* Misuse of append, rotate and combine. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/methods.h"
#include "support/refused.h"

enum { ROWS = 3, HEADS = 2, DIM = 16, PAGE = 4, PAGES = 2 };

static const spindle_shape raw = {.struct_size = sizeof raw, .q_dtype = SPINDLE_F32, .num_q_heads = HEADS, .head_dim_qk = DIM};

typedef struct fixture {
  spindle_context *context;
  spindle_positions *table;
  spindle_shape shape;
  char *a, *b, *c, *d;
  int64_t slot[ROWS + 1], index[ROWS];
} fixture;

static fixture make(int32_t key_state) {
  fixture f;
  memset(&f, 0, sizeof f);
  f.shape = raw;
  f.shape.key_state = key_state;
  test_ok(spindle_context_create(&f.context, NULL));
  test_ok(spindle_positions_create(&f.table, f.context, &f.shape, 2));
  char **all[] = {&f.a, &f.b, &f.c, &f.d};
  for (int x = 0; x < 4; x++) *all[x] = test_memory(4096);
  return f;
}

static void destroy(fixture *f) {
  spindle_positions_destroy(f->table);
  spindle_context_destroy(f->context);
  char *all[] = {f->a, f->b, f->c, f->d};
  for (int x = 0; x < 4; x++) free(all[x]);
}

static void check_untouched(const char *memory) {
  for (int b = 0; b < 4096; b++) cr_assert_eq((unsigned char)memory[b], 0xff, "a call that failed wrote its output");
}

/* ---- Append ---- */

static spindle_append_args append_args(fixture *f) {
  spindle_append_args a = {.struct_size = sizeof a,
                           .rows = ROWS,
                           .page_size = PAGE,
                           .num_pages = PAGES,
                           .k_new = {.data = f->a},
                           .v_new = {.data = f->b},
                           .k = {.data = f->c},
                           .v = {.data = f->d},
                           .slot = f->slot};
  return a;
}

#define BAD_APPEND(change, want, ...)                                                 \
  do {                                                                                \
    spindle_append_args a = append_args(&f);                                          \
    change;                                                                           \
    REFUSED(spindle_append(f.context, &f.shape, table, &a, NULL), want, __VA_ARGS__); \
    check_untouched(f.c);                                                             \
    check_untouched(f.d);                                                             \
  } while (0)

Test(api_cache, append_refused) {
  fixture f = make(SPINDLE_KEYS_RAW);
  spindle_positions *table = NULL;
  spindle_append_args good = append_args(&f);
  const float scale[HEADS] = {1, 1};
  REFUSED(spindle_append(NULL, &f.shape, NULL, &good, NULL), SPINDLE_INVALID_ARGUMENT, "context is NULL");
  REFUSED(spindle_append(f.context, NULL, NULL, &good, NULL), SPINDLE_INVALID_ARGUMENT, "shape is NULL");
  REFUSED(spindle_append(f.context, &f.shape, f.table, &good, NULL), SPINDLE_INVALID_ARGUMENT, "positions", "key_state");
  BAD_APPEND(a.rows = -1, SPINDLE_INVALID_ARGUMENT, "args.rows", "-1");
  BAD_APPEND(a.src_dtype = SPINDLE_F8E4M3, SPINDLE_INVALID_ARGUMENT, "args.src_dtype", "4", "[1, 3]");
  BAD_APPEND(a.page_size = 0, SPINDLE_INVALID_ARGUMENT, "args.page_size", "0");
  BAD_APPEND(a.num_pages = 0, SPINDLE_INVALID_ARGUMENT, "args.num_pages", "0");
  BAD_APPEND(a.slot = NULL, SPINDLE_INVALID_ARGUMENT, "args.slot", "NULL");
  BAD_APPEND(a.slot = (const int64_t *)((const char *)f.slot + 4), SPINDLE_MISALIGNED, "args.slot", "8");
  BAD_APPEND(a.k_new.data = NULL, SPINDLE_INVALID_ARGUMENT, "args.k_new", "NULL");
  BAD_APPEND(a.v_new.data = f.b + 8, SPINDLE_MISALIGNED, "args.v_new", "16");
  BAD_APPEND(a.k.data = f.c + 8, SPINDLE_MISALIGNED, "args.k", "16");
  BAD_APPEND(a.v.page = 65 * 2, SPINDLE_MISALIGNED, "args.v.page", "130");
  BAD_APPEND(a.k_new.batch = 64, SPINDLE_INVALID_ARGUMENT, "args.k_new.batch");
  BAD_APPEND(a.k.data = f.a, SPINDLE_OVERLAP, "args.k", "args.k_new");
  BAD_APPEND(a.v.data = f.a, SPINDLE_OVERLAP, "args.v", "args.k_new");
  BAD_APPEND(a.v.data = f.c, SPINDLE_OVERLAP, "args.k and args.v");
  BAD_APPEND(a.k.scale = scale, SPINDLE_INVALID_ARGUMENT, "args.k.scale", "f32");
  destroy(&f);
}

Test(api_cache, rotating_append_refused) {
  fixture f = make(SPINDLE_KEYS_ROTATED);
  spindle_positions *table = f.table, *other;
  spindle_shape narrow = f.shape;
  BAD_APPEND(a.index = NULL, SPINDLE_INVALID_ARGUMENT, "args.index", "NULL");
  narrow.rotary_dim = 8;
  test_ok(spindle_positions_create(&other, f.context, &narrow, 1));
  table = other;
  BAD_APPEND(a.index = f.index, SPINDLE_INVALID_ARGUMENT, "rotary_dim", "8", "16");
  table = f.table;
  for (int32_t rope = 0; rope < TEST_NUM_RULES; rope++) {
    spindle_position p = test_rule(rope, DIM);
    if (!test_rule_has_n(rope)) continue;
    test_ok(spindle_positions_set(f.table, 1, &p, NULL));
    BAD_APPEND(a.index = f.index, SPINDLE_UNSUPPORTED, "positions", "length-dependent");
  }
  spindle_positions_destroy(other);
  destroy(&f);
}

/* ---- Rotate ---- */

#define BAD_ROTATE(change, want, ...)                                                                                       \
  do {                                                                                                                      \
    spindle_rotate_args a = {                                                                                               \
        .struct_size = sizeof a, .rows = ROWS, .heads = HEADS, .x = {.data = f.a}, .out = {.data = f.b}, .index = f.index}; \
    change;                                                                                                                 \
    REFUSED(spindle_rotate(f.context, &f.shape, f.table, &a, NULL), want, __VA_ARGS__);                                     \
    check_untouched(f.b);                                                                                                   \
  } while (0)

Test(api_cache, rotate_refused) {
  fixture f = make(SPINDLE_KEYS_RAW);
  spindle_rotate_args good = {.struct_size = sizeof good};
  REFUSED(spindle_rotate(NULL, &f.shape, f.table, &good, NULL), SPINDLE_INVALID_ARGUMENT, "context is NULL");
  REFUSED(spindle_rotate(f.context, &f.shape, NULL, &good, NULL), SPINDLE_INVALID_ARGUMENT, "positions is NULL");
  REFUSED(spindle_rotate(f.context, NULL, f.table, &good, NULL), SPINDLE_INVALID_ARGUMENT, "shape is NULL");
  BAD_ROTATE(a.rows = -1, SPINDLE_INVALID_ARGUMENT, "args.rows", "-1");
  BAD_ROTATE(a.heads = 0, SPINDLE_INVALID_ARGUMENT, "args.heads", "0", "4096");
  BAD_ROTATE(a.dtype = 9, SPINDLE_INVALID_ARGUMENT, "args.dtype", "9");
  BAD_ROTATE(a.inverse = 2, SPINDLE_INVALID_ARGUMENT, "args.inverse", "2");
  BAD_ROTATE(a.index = NULL, SPINDLE_INVALID_ARGUMENT, "args.index", "NULL");
  BAD_ROTATE(a.x.data = NULL, SPINDLE_INVALID_ARGUMENT, "args.x", "NULL");
  BAD_ROTATE(a.out.data = f.b + 4, SPINDLE_MISALIGNED, "args.out", "16");
  BAD_ROTATE(a.out.data = f.a + 16, SPINDLE_OVERLAP, "args.out", "args.x");
  BAD_ROTATE((a.out.data = f.a, a.out.row = 64), SPINDLE_OVERLAP, "args.out", "args.x");
  BAD_ROTATE(a.x.batch = 16, SPINDLE_INVALID_ARGUMENT, "args.x.batch");
  spindle_position p = test_rule(SPINDLE_ROPE_DYNAMIC_NTK, DIM);
  test_ok(spindle_positions_set(f.table, 0, &p, NULL));
  BAD_ROTATE(a.n = NULL, SPINDLE_INVALID_ARGUMENT, "args.n", "NULL");
  p = test_rule(SPINDLE_ROPE_XPOS, DIM);
  test_ok(spindle_positions_set(f.table, 0, &p, NULL));
  BAD_ROTATE(a.n = f.index, SPINDLE_UNSUPPORTED, "xPos");
  destroy(&f);
}

/* ---- Combine ---- */

static spindle_combine_args combine_args(fixture *f) {
  spindle_combine_args a = {.struct_size = sizeof a,
                            .parts = 2,
                            .rows = ROWS,
                            .num_q_heads = HEADS,
                            .head_dim_v = DIM,
                            .part_o = {.data = f->a},
                            .part_o_stride = ROWS * HEADS * DIM,
                            .part_lse = {.data = (float *)f->b},
                            .part_lse_stride = ROWS * HEADS,
                            .o = {.data = f->c},
                            .lse = {.data = (float *)f->d}};
  return a;
}

#define BAD_COMBINE(change, want, ...)                                \
  do {                                                                \
    spindle_combine_args a = combine_args(&f);                        \
    change;                                                           \
    REFUSED(spindle_combine(f.context, &a, NULL), want, __VA_ARGS__); \
    check_untouched(f.c);                                             \
    check_untouched(f.d);                                             \
  } while (0)

Test(api_cache, combine_refused) {
  fixture f = make(SPINDLE_KEYS_RAW);
  BAD_COMBINE(a.parts = 0, SPINDLE_INVALID_ARGUMENT, "args.parts", "0", "65536");
  BAD_COMBINE(a.parts = 65537, SPINDLE_INVALID_ARGUMENT, "args.parts", "65537");
  BAD_COMBINE(a.rows = -1, SPINDLE_INVALID_ARGUMENT, "args.rows", "-1");
  BAD_COMBINE(a.num_q_heads = 0, SPINDLE_INVALID_ARGUMENT, "args.num_q_heads", "0");
  BAD_COMBINE(a.head_dim_v = 513, SPINDLE_INVALID_ARGUMENT, "args.head_dim_v", "513", "512");
  BAD_COMBINE(a.part_dtype = SPINDLE_F8E4M3, SPINDLE_INVALID_ARGUMENT, "args.part_dtype", "4");
  BAD_COMBINE(a.o_dtype = -1, SPINDLE_INVALID_ARGUMENT, "args.o_dtype", "-1");
  BAD_COMBINE(a.own_part = 1, SPINDLE_INVALID_ARGUMENT, "args.own_part", "1");
  BAD_COMBINE(a.reserved = 1, SPINDLE_INVALID_ARGUMENT, "args.reserved", "1");
  BAD_COMBINE(a.part_o.data = NULL, SPINDLE_INVALID_ARGUMENT, "args.part_o", "NULL");
  BAD_COMBINE(a.part_lse.data = NULL, SPINDLE_INVALID_ARGUMENT, "args.part_lse", "NULL");
  BAD_COMBINE(a.o.data = NULL, SPINDLE_INVALID_ARGUMENT, "args.o", "NULL");
  BAD_COMBINE(a.part_o.data = f.a + 8, SPINDLE_MISALIGNED, "args.part_o", "16");
  BAD_COMBINE(a.part_o_stride = 0, SPINDLE_INVALID_ARGUMENT, "args.part_o_stride", "0");
  BAD_COMBINE(a.part_lse_stride = -1, SPINDLE_INVALID_ARGUMENT, "args.part_lse_stride", "-1");
  BAD_COMBINE(a.part_o_stride = 97, SPINDLE_MISALIGNED, "args.part_o_stride", "97");
  BAD_COMBINE(a.o.data = f.a + 16, SPINDLE_OVERLAP, "args.o", "args.part_o");
  BAD_COMBINE(a.lse.data = (float *)f.a, SPINDLE_OVERLAP, "args.lse", "args.part_o");
  BAD_COMBINE(a.o.data = f.b, SPINDLE_OVERLAP, "args.o", "args.part_lse");
  BAD_COMBINE((a.o.data = f.a, a.part_o_stride = 64), SPINDLE_OVERLAP, "args.o", "part 1");
  BAD_COMBINE(a.o.batch = 64, SPINDLE_INVALID_ARGUMENT, "batch");
  spindle_combine_args a = combine_args(&f);
  a.own_part = 2;
  REFUSED(spindle_combine_scale(f.context, &a, NULL), SPINDLE_INVALID_ARGUMENT, "args.own_part", "2", "1]");
  a = combine_args(&f);
  REFUSED(spindle_combine(NULL, &a, NULL), SPINDLE_INVALID_ARGUMENT, "context is NULL");
  a.rows = 0;
  a.part_o.data = NULL;
  test_ok(spindle_combine(f.context, &a, NULL));
  destroy(&f);
}
