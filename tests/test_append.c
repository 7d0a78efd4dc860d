/* append by hand, on every backend: what it writes, and what it leaves alone. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include <spindle/spindle.h>

enum { D = 8, PAGE = 4, PAGES = 3 };

static const int32_t backends[] = {SPINDLE_BACKEND_REFERENCE, SPINDLE_BACKEND_CPU};

typedef struct {
  spindle_context *context;
  spindle_positions *positions;
  spindle_shape shape;
} fixture;

static fixture setup(int32_t backend, spindle_shape shape, spindle_position position) {
  fixture f = {.shape = shape};
  spindle_context_options options = {.struct_size = sizeof options, .backend = backend};
  f.shape.struct_size = sizeof f.shape;
  position.struct_size = sizeof position;
  cr_assert_eq(spindle_context_create(&f.context, &options), SPINDLE_OK, "%s", spindle_last_error());
  cr_assert_eq(spindle_positions_create(&f.positions, f.context, &f.shape, 1), SPINDLE_OK, "%s", spindle_last_error());
  cr_assert_eq(spindle_positions_set(f.positions, 0, &position, NULL), SPINDLE_OK, "%s", spindle_last_error());
  return f;
}

static void teardown(fixture *f) {
  spindle_positions_destroy(f->positions);
  spindle_context_destroy(f->context);
}

/* Catches a scale that multiplies on the way in, overflow to NaN, and rows written for a slot of padding. */
Test(append, quantises) {
  /* Halved, 17 and 19 lie between two numbers: the even ones are 8 and 10. */
  _Alignas(16) static const float rows[3][16] = {{1, 2, 17, 19, 900, -900, 0, 0.25f}, {5}, {-6}};
  static const uint8_t expected[8] = {0x30, 0x38, 0x50, 0x52, 0x7e, 0xfe, 0x00, 0x20}; /* of row 0 halved */
  const int64_t slot[3] = {6, -1, PAGES * PAGE};
  const float two = 2;
  for (int b = 0; b < 2; b++) {
    fixture f = setup(backends[b],
                      (spindle_shape){.q_dtype = SPINDLE_F32, .kv_dtype = SPINDLE_F8E4M3, .num_q_heads = 1, .head_dim_qk = 16},
                      (spindle_position){.rope = SPINDLE_ROPE_DEFAULT});
    _Alignas(16) uint8_t k[PAGES * PAGE * 16], v[PAGES * PAGE * 16];
    memset(k, 0x55, sizeof k);
    memset(v, 0x55, sizeof v);
    spindle_append_args args = {.struct_size = sizeof args, .rows = 3, .page_size = PAGE, .num_pages = PAGES, .slot = slot};
    args.k_new.data = args.v_new.data = (void *)rows;
    args.k = (spindle_cache){.data = k, .scale = &two};
    args.v = (spindle_cache){.data = v};
    cr_assert_eq(spindle_append(f.context, &f.shape, NULL, &args, NULL), SPINDLE_OK, "%s", spindle_last_error());
    for (int c = 0; c < 8; c++)
      cr_expect_eq(k[6 * 16 + c], expected[c], "backend %d, channel %d: %#x", backends[b], c, k[6 * 16 + c]);
    cr_expect_eq(v[6 * 16 + 2], 0x58, "backend %d: 17 unscaled is 16", backends[b]);
    for (int byte = 0; byte < (int)sizeof k; byte++)
      if (byte / 16 != 6) cr_expect(k[byte] == 0x55 && v[byte] == 0x55, "backend %d: byte %d was written", backends[b], byte);
    teardown(&f);
  }
}

static const spindle_position yarn = {.rope = SPINDLE_ROPE_YARN, .factor = 4, .original_max_position_embeddings = 2048};

static void rotate(const fixture *f, const float *x, float *out, int64_t index, int32_t inverse) {
  spindle_rotate_args args = {.struct_size = sizeof args, .rows = 1, .heads = 1, .inverse = inverse, .index = &index};
  args.x.data = (void *)x;
  args.out.data = out;
  cr_assert_eq(spindle_rotate(f->context, &f->shape, f->positions, &args, NULL), SPINDLE_OK, "%s", spindle_last_error());
}

/* Catches keys rotated at their row or slot instead of their index, and values rotated along. */
Test(append, rotates) {
  const int64_t slot[2] = {9, 2}, index[2] = {70000, 3};
  for (int b = 0; b < 2; b++) {
    fixture f = setup(
        backends[b],
        (spindle_shape){.q_dtype = SPINDLE_F32, .num_q_heads = 1, .head_dim_qk = D, .key_state = SPINDLE_KEYS_ROTATED}, yarn);
    _Alignas(16) float rows[2 * D], k[PAGES * PAGE * D], v[PAGES * PAGE * D], expected[D];
    for (int c = 0; c < 2 * D; c++) rows[c] = (float)(c - 5);
    spindle_append_args args = {.struct_size = sizeof args, .rows = 2, .page_size = PAGE, .num_pages = PAGES, .slot = slot};
    args.index = index;
    args.k_new.data = args.v_new.data = rows;
    args.k.data = k;
    args.v.data = v;
    cr_assert_eq(spindle_append(f.context, &f.shape, f.positions, &args, NULL), SPINDLE_OK, "%s", spindle_last_error());
    for (int r = 0; r < 2; r++) {
      rotate(&f, rows + r * D, expected, index[r], 0);
      cr_expect_arr_eq(k + slot[r] * D, expected, sizeof expected, "backend %d, row %d", backends[b], r);
      cr_expect_arr_eq(v + slot[r] * D, rows + r * D, sizeof expected, "backend %d, row %d", backends[b], r);
    }
    teardown(&f);
  }
}
