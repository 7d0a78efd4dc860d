/* Shapes and position descriptors: every bad value is refused by name, and a failed set leaves its slot as it was. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/attend.h"
#include "support/methods.h"
#include "support/refused.h"

static const spindle_shape good = {
    .struct_size = sizeof good, .q_dtype = SPINDLE_F32, .num_q_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64};

/* ---- Shapes ---- */

static spindle_status try_shape(spindle_shape shape) {
  spindle_position none = {.struct_size = sizeof none};
  return spindle_position_resolve(&none, &shape, 1, NULL, NULL, NULL);
}

#define BAD_SHAPE(field, value, ...)                                                   \
  do {                                                                                 \
    spindle_shape shape = good;                                                        \
    shape.field = (value);                                                             \
    REFUSED(try_shape(shape), SPINDLE_INVALID_ARGUMENT, "shape." #field, __VA_ARGS__); \
  } while (0)

Test(api_positions, shapes_refused) {
  test_ok(try_shape(good));
  BAD_SHAPE(q_dtype, 0, "is 0");
  BAD_SHAPE(q_dtype, SPINDLE_F8E4M3, "is 4", "[1, 3]");
  BAD_SHAPE(q_dtype, -1, "-1");
  BAD_SHAPE(kv_dtype, 5, "is 5", "[1, 4]");
  BAD_SHAPE(kv_dtype, -1, "-1");
  BAD_SHAPE(o_dtype, SPINDLE_F8E4M3, "is 4", "[1, 3]");
  BAD_SHAPE(num_q_heads, 0, "is 0", "[1, 4096]");
  BAD_SHAPE(num_q_heads, 4097, "4097", "[1, 4096]");
  BAD_SHAPE(num_q_heads, -8, "-8");
  BAD_SHAPE(num_kv_heads, 3, "is 3", "divide", "4");
  BAD_SHAPE(num_kv_heads, 8, "is 8", "[1, 4]");
  BAD_SHAPE(num_kv_heads, -1, "-1");
  BAD_SHAPE(head_dim_qk, 0, "is 0", "[1, 512]");
  BAD_SHAPE(head_dim_qk, 513, "513", "[1, 512]");
  BAD_SHAPE(head_dim_v, 513, "513", "[1, 512]");
  BAD_SHAPE(head_dim_v, -1, "-1");
  BAD_SHAPE(rotary_dim, 7, "is 7", "even");
  BAD_SHAPE(rotary_dim, 66, "66", "[0, 64]");
  BAD_SHAPE(rotary_dim, -2, "-2");
  BAD_SHAPE(rotary_offset, 65, "65", "[0, 64]");
  BAD_SHAPE(rotary_offset, -1, "-1");
  BAD_SHAPE(pair_layout, 2, "is 2", "[0, 1]");
  BAD_SHAPE(key_state, 2, "is 2", "[0, 1]");
  BAD_SHAPE(key_state, -1, "-1");
  BAD_SHAPE(bias, 4, "is 4", "[0, 3]");
  spindle_shape shape = good;
  shape.rotary_dim = 48;
  shape.rotary_offset = 32;
  REFUSED(try_shape(shape), SPINDLE_INVALID_ARGUMENT, "shape.rotary_dim", "48", "[0, 32]");
}

/* ---- Descriptors ---- */

typedef struct fixture {
  spindle_context *context;
  spindle_positions *table;
} fixture;

static fixture make(spindle_shape shape) {
  fixture f;
  test_ok(spindle_context_create(&f.context, NULL));
  test_ok(spindle_positions_create(&f.table, f.context, &shape, 4));
  return f;
}

static void destroy(fixture *f) {
  spindle_positions_destroy(f->table);
  spindle_context_destroy(f->context);
}

static spindle_status set(const fixture *f, spindle_position p) {
  p.struct_size = sizeof p;
  return spindle_positions_set(f->table, 1, &p, NULL);
}

Test(api_positions, tables_and_slots_refused) {
  fixture f = make(good);
  spindle_position p = {.struct_size = sizeof p};
  spindle_positions *table = NULL;
  spindle_stream stream = (spindle_stream)&p;
  REFUSED(spindle_positions_create(NULL, f.context, &good, 1), SPINDLE_INVALID_ARGUMENT, "positions is NULL");
  REFUSED(spindle_positions_create(&table, NULL, &good, 1), SPINDLE_INVALID_ARGUMENT, "context is NULL");
  REFUSED(spindle_positions_create(&table, f.context, NULL, 1), SPINDLE_INVALID_ARGUMENT, "shape is NULL");
  REFUSED(spindle_positions_create(&table, f.context, &good, 0), SPINDLE_INVALID_ARGUMENT, "capacity", "[1, 1048576]");
  REFUSED(spindle_positions_create(&table, f.context, &good, 1048577), SPINDLE_INVALID_ARGUMENT, "capacity", "1048577");
  cr_assert_null(table);
  REFUSED(spindle_positions_set(NULL, 0, &p, NULL), SPINDLE_INVALID_ARGUMENT, "positions is NULL");
  REFUSED(spindle_positions_set(f.table, -1, &p, NULL), SPINDLE_INVALID_ARGUMENT, "slot", "-1", "[0, 3]");
  REFUSED(spindle_positions_set(f.table, 4, &p, NULL), SPINDLE_INVALID_ARGUMENT, "slot", "4", "[0, 3]");
  REFUSED(spindle_positions_set(f.table, 0, &p, stream), SPINDLE_INVALID_ARGUMENT, "stream");
  destroy(&f);
}

/* A position that satisfies the method, whatever its family. */
static spindle_position position_of(const spindle_method *method) {
  if (method->family == SPINDLE_FAMILY_ROPE) return test_rule(method->kind, 64);
  if (method->family == SPINDLE_FAMILY_REMAP) return test_remap(test_rule(SPINDLE_ROPE_DEFAULT, 64), method->kind);
  spindle_position p = test_rule(SPINDLE_ROPE_DEFAULT, 64);
  if (method->family != SPINDLE_FAMILY_LOGITS || method->kind < 0) return p;
  p.row_scale = method->kind;
  if (method->kind != SPINDLE_ROWSCALE_SSMAX) p.row_scale_length = 100;
  if (method->kind == SPINDLE_ROWSCALE_LLAMA4 || method->kind == SPINDLE_ROWSCALE_MINISTRAL) p.row_scale_beta = 0.1;
  return p;
}

static bool names(const char *list, const char *name) {
  size_t length = strlen(name);
  for (const char *at = strstr(list, name); at; at = strstr(at + 1, name))
    if ((at == list || strchr(" |", at[-1])) && strchr(" |", at[length])) return true;
  return false;
}

static void put(spindle_position *p, const spindle_parameter *parameter, double value) {
  char *field = (char *)p + parameter->offset;
  int32_t flag = (int32_t)value;
  int64_t integer = (int64_t)value;
  switch (parameter->type) {
    case SPINDLE_PARAMETER_NUMBER: memcpy(field, &value, sizeof value); break;
    case SPINDLE_PARAMETER_INTEGER: memcpy(field, &integer, sizeof integer); break;
    case SPINDLE_PARAMETER_LIST: memset(field, 0, sizeof(double *)); break;
    default: memcpy(field, &flag, sizeof flag); break;
  }
}

/* Through the registry: each method works as given, and with any one required parameter missing it does not. */
Test(api_positions, missing_parameters_refused) {
  int32_t methods, parameters;
  const spindle_method *method = spindle_methods(&methods);
  const spindle_parameter *parameter = spindle_parameters(&parameters);
  fixture f = make(good);
  for (int32_t m = 0; m < methods; m++) {
    if (method[m].family == SPINDLE_FAMILY_BIAS || method[m].family == SPINDLE_FAMILY_MASK) continue;
    cr_assert_eq(set(&f, position_of(&method[m])), SPINDLE_OK, "%s: %s", method[m].name, spindle_last_error());
    for (int32_t x = 0; x < parameters && method[m].kind >= 0; x++) {
      if (parameter[x].family != method[m].family || !names(method[m].required, parameter[x].name)) continue;
      spindle_position p = position_of(&method[m]);
      put(&p, &parameter[x], 0);
      if (strstr(method[m].required, "factor|max_position_embeddings") && !strcmp(parameter[x].name, "factor"))
        p.max_position_embeddings = 0;
      else if (strstr(method[m].required, "factor|max_position_embeddings") &&
               !strcmp(parameter[x].name, "max_position_embeddings"))
        p.factor = 0;
      REFUSED(set(&f, p), SPINDLE_INVALID_ARGUMENT, method[m].name, parameter[x].name);
    }
  }
  destroy(&f);
}

/* Every number of every method: NaN, infinity and a negative value are refused by the field's name. Frequencies and a slope of
 * scale may be negative. */
Test(api_positions, bad_numbers_refused) {
  int32_t methods, parameters;
  const spindle_method *method = spindle_methods(&methods);
  const spindle_parameter *parameter = spindle_parameters(&parameters);
  fixture f = make(good);
  for (int32_t m = 0; m < methods; m++)
    for (int32_t x = 0; x < parameters; x++) {
      bool read = names(method[m].required, parameter[x].name) || names(method[m].optional, parameter[x].name);
      if (parameter[x].family != method[m].family || !read || parameter[x].type == SPINDLE_PARAMETER_LIST) continue;
      if (method[m].kind < 0 && method[m].family != SPINDLE_FAMILY_MASK) continue;
      static const double bad[] = {-1, -1e300, 1e300, NAN, INFINITY, -INFINITY};
      bool number = parameter[x].type == SPINDLE_PARAMETER_NUMBER,
           beta = parameter[x].offset == offsetof(spindle_position, row_scale_beta);
      for (int b = beta ? 1 : 0; b < (number ? 6 : 1); b++) {
        spindle_position p = position_of(&method[m]);
        if (b == 2 && !strcmp(parameter[x].name, "rope_theta")) continue;
        put(&p, &parameter[x], bad[b]);
        REFUSED(set(&f, p), SPINDLE_INVALID_ARGUMENT, parameter[x].field);
      }
    }
  destroy(&f);
}

/* What a method does not read must not be given: nothing is silently ignored. */
Test(api_positions, stray_parameters_refused) {
  fixture f = make(good);
  REFUSED(set(&f, (spindle_position){.rope = SPINDLE_ROPE_DEFAULT, .factor = 2}), SPINDLE_INVALID_ARGUMENT, "factor", "default");
  REFUSED(set(&f, (spindle_position){.rope = SPINDLE_ROPE_LINEAR, .factor = 2, .alpha = 2}), SPINDLE_INVALID_ARGUMENT, "alpha",
          "linear");
  REFUSED(set(&f, (spindle_position){.remap_window = 2}), SPINDLE_INVALID_ARGUMENT, "remap_window", "none");
  REFUSED(set(&f, (spindle_position){.row_scale_length = 5}), SPINDLE_INVALID_ARGUMENT, "row_scale");
  REFUSED(set(&f, (spindle_position){.row_scale = SPINDLE_ROWSCALE_LOGN, .row_scale_length = 9, .row_scale_beta = 1}),
          SPINDLE_INVALID_ARGUMENT, "row_scale_beta");
  destroy(&f);
}

Test(api_positions, unknown_kinds_refused) {
  fixture f = make(good);
  static const int32_t bad[] = {-1, 21, 99, INT32_MIN, INT32_MAX};
  for (int b = 0; b < 5; b++) {
    char number[20];
    snprintf(number, sizeof number, "%d", bad[b]);
    REFUSED(set(&f, (spindle_position){.rope = bad[b]}), SPINDLE_INVALID_ARGUMENT, "position.rope", number);
    REFUSED(set(&f, (spindle_position){.remap = bad[b]}), SPINDLE_INVALID_ARGUMENT, "position.remap", number);
    REFUSED(set(&f, (spindle_position){.row_scale = bad[b]}), SPINDLE_INVALID_ARGUMENT, "position.row_scale", number);
    REFUSED(set(&f, (spindle_position){.not_causal = bad[b]}), SPINDLE_INVALID_ARGUMENT, "not_causal", number);
  }
  destroy(&f);
}

Test(api_positions, lists_of_the_wrong_length_or_content_refused) {
  fixture f = make(good);
  double list[64];
  for (int t = 0; t < 64; t++) list[t] = 1;
  for (int32_t pairs = -1; pairs < 40; pairs += 4) {
    REFUSED(set(&f, (spindle_position){.rope = SPINDLE_ROPE_TABLE, .inv_freq = list, .num_pairs = pairs}),
            SPINDLE_INVALID_ARGUMENT, "num_pairs", "32");
    REFUSED(set(&f, (spindle_position){.rope = SPINDLE_ROPE_LONGROPE,
                                       .short_factor = list,
                                       .long_factor = list,
                                       .num_pairs = pairs,
                                       .factor = 2,
                                       .original_max_position_embeddings = 9}),
            SPINDLE_INVALID_ARGUMENT, "num_pairs", "32");
  }
  spindle_position table = {.rope = SPINDLE_ROPE_TABLE, .inv_freq = list, .num_pairs = 32};
  test_ok(set(&f, table));
  list[7] = NAN;
  REFUSED(set(&f, table), SPINDLE_INVALID_ARGUMENT, "inv_freq[7]", "nan");
  list[7] = 1e9;
  REFUSED(set(&f, table), SPINDLE_INVALID_ARGUMENT, "inv_freq[7]");
  list[7] = 0; /* a frequency may be 0, a divisor may not */
  test_ok(set(&f, table));
  REFUSED(set(&f, (spindle_position){.rope = SPINDLE_ROPE_LONGROPE_DYNAMIC,
                                     .long_factor = list,
                                     .num_pairs = 32,
                                     .factor = 2,
                                     .original_max_position_embeddings = 9}),
          SPINDLE_INVALID_ARGUMENT, "long_factor[7]");
  destroy(&f);
}

Test(api_positions, combinations_refused) {
  fixture f = make(good);
  spindle_position plain = {.rope = SPINDLE_ROPE_DEFAULT};
  for (int32_t remap = 1; remap < TEST_NUM_REMAPS; remap++) {
    spindle_position p = test_remap(plain, remap);
    p.not_causal = 1;
    REFUSED(set(&f, p), SPINDLE_INVALID_ARGUMENT, "not_causal", "causal only");
  }
  REFUSED(set(&f, (spindle_position){.window_right = 5}), SPINDLE_INVALID_ARGUMENT, "window_right", "not_causal");
  REFUSED(set(&f, (spindle_position){.sink_tokens = 5}), SPINDLE_INVALID_ARGUMENT, "sink_tokens", "window_left");
  REFUSED(set(&f, (spindle_position){.s2_group = 7}), SPINDLE_INVALID_ARGUMENT, "s2_group", "7", "even");
  REFUSED(set(&f, (spindle_position){.s2_wrap = 1}), SPINDLE_INVALID_ARGUMENT, "s2_wrap", "s2_group");
  REFUSED(set(&f, (spindle_position){.s2_wrap = 1, .s2_group = 8, .not_causal = 1}), SPINDLE_INVALID_ARGUMENT, "s2_wrap",
          "not_causal");
  REFUSED(set(&f, (spindle_position){.s2_wrap = 1, .s2_group = 8, .chunk = 100}), SPINDLE_INVALID_ARGUMENT, "s2_wrap", "chunk");
  REFUSED(set(&f, (spindle_position){.remap = SPINDLE_REMAP_SELF_EXTEND, .remap_group = 3, .remap_window = 10}),
          SPINDLE_INVALID_ARGUMENT, "remap_window", "10", "3");
  REFUSED(set(&f, (spindle_position){.remap = SPINDLE_REMAP_DCA, .remap_chunk = 8, .remap_local = 8}), SPINDLE_INVALID_ARGUMENT,
          "remap_local", "remap_chunk");
  REFUSED(set(&f, (spindle_position){.remap = SPINDLE_REMAP_DCA_PAPER, .remap_chunk = 8, .remap_pretrain = 8}),
          SPINDLE_INVALID_ARGUMENT, "remap_chunk", "remap_pretrain");
  REFUSED(set(&f, (spindle_position){.rope = SPINDLE_ROPE_LLAMA3,
                                     .factor = 8,
                                     .original_max_position_embeddings = 99,
                                     .low_freq_factor = 4,
                                     .high_freq_factor = 4}),
          SPINDLE_INVALID_ARGUMENT, "high_freq_factor", "low_freq_factor");
  REFUSED(set(&f, (spindle_position){.rope = SPINDLE_ROPE_YARN, .factor = 8, .original_max_position_embeddings = 6}),
          SPINDLE_INVALID_ARGUMENT, "original_max_position_embeddings", "6");
  destroy(&f);
}

Test(api_positions, what_the_shape_cannot_serve_is_unsupported) {
  spindle_shape rotated = good, odd = good, narrow = good, nope = good;
  rotated.key_state = SPINDLE_KEYS_ROTATED;
  fixture f = make(rotated);
  for (int32_t remap = 1; remap < TEST_NUM_REMAPS; remap++) {
    spindle_position p = test_remap(test_rule(SPINDLE_ROPE_DEFAULT, 64), remap);
    if (remap == SPINDLE_REMAP_STREAMING)
      test_ok(set(&f, p)); /* leaves keys at their index */
    else
      REFUSED(set(&f, p), SPINDLE_UNSUPPORTED, "raw keys", "key_state");
  }
  REFUSED(set(&f, test_rule(SPINDLE_ROPE_XPOS, 64)), SPINDLE_UNSUPPORTED, "xpos", "key_state");
  destroy(&f);
  odd.num_q_heads = odd.num_kv_heads = 3;
  f = make(odd);
  REFUSED(set(&f, (spindle_position){.s2_group = 8}), SPINDLE_UNSUPPORTED, "s2_group", "num_q_heads", "3");
  destroy(&f);
  narrow.rotary_dim = 2;
  f = make(narrow);
  REFUSED(set(&f, test_rule(SPINDLE_ROPE_NTK, 2)), SPINDLE_UNSUPPORTED, "rotary_dim", "2");
  REFUSED(set(&f, test_rule(SPINDLE_ROPE_DYNAMIC_NTK, 2)), SPINDLE_UNSUPPORTED, "rotary_dim", "2");
  test_ok(set(&f, test_rule(SPINDLE_ROPE_DEFAULT, 2)));
  destroy(&f);
  nope.head_dim_qk = 1;
  f = make(nope);
  REFUSED(set(&f, test_rule(SPINDLE_ROPE_DEFAULT, 2)), SPINDLE_UNSUPPORTED, "rope", "rotary_dim");
  test_ok(set(&f, (spindle_position){.window_left = 4}));
  destroy(&f);
}

Test(api_positions, resolve_and_relative_refuse_and_touch_nothing) {
  spindle_position p = test_rule(SPINDLE_ROPE_DYNAMIC_NTK, 64);
  double w[32], a = 7, c = 7, relative[4] = {7, 7, 7, 7};
  REFUSED(spindle_position_resolve(&p, &good, 0, w, &a, &c), SPINDLE_INVALID_ARGUMENT, "n is 0");
  REFUSED(spindle_position_resolve(&p, &good, -3, w, &a, &c), SPINDLE_INVALID_ARGUMENT, "n is -3");
  REFUSED(spindle_position_resolve(NULL, &good, 1, w, &a, &c), SPINDLE_INVALID_ARGUMENT, "position is NULL");
  REFUSED(spindle_position_resolve(&p, NULL, 1, w, &a, &c), SPINDLE_INVALID_ARGUMENT, "shape is NULL");
  REFUSED(spindle_position_relative(&p, 0, 4, 4, relative), SPINDLE_INVALID_ARGUMENT, "row is 4", "[0, 3]");
  REFUSED(spindle_position_relative(&p, 0, -1, 4, relative), SPINDLE_INVALID_ARGUMENT, "row is -1");
  REFUSED(spindle_position_relative(&p, 0, 0, 0, relative), SPINDLE_INVALID_ARGUMENT, "n is 0");
  REFUSED(spindle_position_relative(&p, 0, 0, 4, NULL), SPINDLE_INVALID_ARGUMENT, "relative is NULL");
  cr_assert(a == 7 && c == 7 && relative[0] == 7 && relative[3] == 7);
  test_ok(spindle_position_resolve(&p, &good, 1, NULL, NULL, NULL));
}

/* A refused descriptor leaves the slot: the next call still sees the old one. */
Test(api_positions, failed_set_keeps_the_slot) {
  fixture f = make(good);
  float *x = test_memory(64 * sizeof *x), *first = test_memory(64 * sizeof *x), *second = test_memory(64 * sizeof *x);
  int64_t index = 1234;
  int32_t slot = 1;
  spindle_rotate_args a = {.struct_size = sizeof a,
                           .rows = 1,
                           .heads = 1,
                           .x = {.data = x},
                           .out = {.data = first},
                           .index = &index,
                           .position = &slot};
  for (int d = 0; d < 64; d++) x[d] = (float)d;
  test_ok(set(&f, test_rule(SPINDLE_ROPE_LLAMA3, 64)));
  test_ok(spindle_rotate(f.context, &good, f.table, &a, NULL));
  REFUSED(set(&f, (spindle_position){.rope = SPINDLE_ROPE_YARN}), SPINDLE_INVALID_ARGUMENT, "yarn");
  REFUSED(set(&f, (spindle_position){.rope = SPINDLE_ROPE_DEFAULT, .rope_theta = NAN}), SPINDLE_INVALID_ARGUMENT, "rope_theta");
  a.out.data = second;
  test_ok(spindle_rotate(f.context, &good, f.table, &a, NULL));
  test_same_bits("slot", second, first, 64);
  destroy(&f);
  free(x);
  free(first);
  free(second);
}
