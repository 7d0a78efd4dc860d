/* Keys and values that are cached in e4m3, read by prefill and by decode: against the reference, which reads the same bytes, and
 * bit for bit against other ways to read them. */
#include <criterion/criterion.h>
#include <emulator.h>
#include <math.h>
#include <string.h>

#include "support/again.h"
#include "support/dtypes.h"
#include "support/halves.h"
#include "support/layer.h"
#include "support/methods.h"
#include "support/mirror.h"

typedef struct fp8_layer {
  test_layer layer;
  float k_scale[TEST_LAYER_HEADS], v_scale[TEST_LAYER_HEADS];
} fp8_layer;

/* The check build, AddressSanitizer, and the second time. */
static bool is_slow(void) { return emulator_sees_plain_accesses() || !emulator_catches_faults() || test_again(); }

/* Scales of the heads, of the tensor, or none. A scale may be negative. */
static void draw_scales(test_random *r, float *scale, spindle_cache *cache) {
  for (int h = 0; h < TEST_LAYER_HEADS; h++)
    scale[h] = (float)(exp(test_random_real(r, log(0.02), log(3))) * (test_random_once_in(r, 5) ? -1 : 1));
  cache->scale = test_random_once_in(r, 6) ? NULL : scale;
  cache->scale_head = cache->scale && !test_random_once_in(r, 4);
}

static void draw(test_random *r, fp8_layer *l) {
  test_layer_draw(r, &l->layer);
  test_setup *setup = &l->layer.setup;
  setup->shape.kv_dtype = SPINDLE_F8E4M3;
  draw_scales(r, l->k_scale, &setup->args.k);
  draw_scales(r, l->v_scale, &setup->args.v);
}

/* Every other one of few rows: decode's. */
static test_request draw_request(test_random *r, const fp8_layer *l, spindle_position p) {
  const spindle_shape *s = &l->layer.setup.shape;
  if (p.s2_wrap || test_random_once_in(r, 2)) return test_layer_request(r, &l->layer, p);
  int32_t group = s->num_q_heads / s->num_kv_heads;
  return test_request_make(r, s, p, (int32_t)test_random_int(r, 1, 16 / group), (int32_t)test_random_log(r, 16, 700), 1);
}

static void check(test_random *r, fp8_layer *l, spindle_position p) {
  test_request q = draw_request(r, l, p);
  test_halves(test_layer_describe(&l->layer, &q), &l->layer.setup, &q, 1);
  test_request_free(&q);
}

Test(fp8, methods) {
  test_random r = test_random_start();
  for (int round = 0; round < (is_slow() ? 12 : 60); round++) {
    fp8_layer l;
    draw(&r, &l);
    check(&r, &l, test_any_method(&r, l.layer.setup.shape.rotary_dim));
  }
}

Test(fp8, rotated_keys) {
  test_random r = test_random_start();
  for (int round = 0; round < (is_slow() ? 5 : 24); round++) {
    fp8_layer l;
    draw(&r, &l);
    l.layer.setup.shape.key_state = SPINDLE_KEYS_ROTATED;
    int32_t rope = (int32_t)test_random_int(&r, 0, TEST_NUM_RULES - 1);
    spindle_position p = test_rule(rope == SPINDLE_ROPE_XPOS ? SPINDLE_ROPE_YARN : rope, l.layer.setup.shape.rotary_dim);
    if (round % 3 == 0) p = test_remap(p, SPINDLE_REMAP_STREAMING);
    check(&r, &l, test_mask(p, round % TEST_NUM_MASKS));
  }
}

/* Keys split over blocks, whose parts are merged: each head's values are scaled once. */
Test(fp8, splits) {
  test_random r = test_random_start();
  for (int round = 0; round < (is_slow() ? 2 : 6); round++) {
    static const int32_t rows[] = {1, 3, 40};
    fp8_layer l;
    draw(&r, &l);
    l.layer.setup.shape.head_dim_qk = l.layer.setup.shape.head_dim_v = l.layer.setup.shape.rotary_dim = 64;
    l.layer.setup.shape.rotary_offset = 0;
    l.layer.setup.split_keys = round % 2 ? 100 : 0;
    l.layer.setup.args.v.scale = l.v_scale;
    test_request q = test_request_make(&r, &l.layer.setup.shape, test_any_method(&r, 64), rows[round % 3], 2000, 1);
    q.position.s2_wrap = 0;
    test_halves(test_layer_describe(&l.layer, &q), &l.layer.setup, &q, 1);
    test_request_free(&q);
  }
}

/* Rotated as they are read, or once before: the same bits. Values are e4m3 beside rotated keys of Q's type. */
Test(fp8, schedules_agree) {
  test_random r = test_random_start();
  for (int round = 0; round < (is_slow() ? 4 : 16); round++) {
    fp8_layer l;
    draw(&r, &l);
    test_request one = draw_request(&r, &l, test_any_method(&r, l.layer.setup.shape.rotary_dim));
    test_request two = test_request_copy(&one, &l.layer.setup.shape);
    test_random before = r;
    l.layer.setup.schedule = SPINDLE_SCHEDULE_IN_LOOP;
    test_attend(&l.layer.setup, &one, 1);
    r = before;
    l.layer.setup.schedule = SPINDLE_SCHEDULE_PREROTATE;
    test_attend(&l.layer.setup, &two, 1);
    test_requests_same(test_layer_describe(&l.layer, &one), &l.layer.setup.shape, &two, &one);
    test_request_free(&one);
    test_request_free(&two);
  }
}

/* Copies that land early or whenever, threads in any order: whoever expands must have waited, and nobody reads before. */
Test(fp8, orders_agree) {
  static const emulator_options options[] = {{.copies = EMULATOR_EAGER, .order = EMULATOR_DESCENDING},
                                             {.copies = EMULATOR_RANDOM, .order = EMULATOR_SHUFFLED, .seed = 3}};
  test_random r = test_random_start();
  for (int round = 0; round < 4; round++) {
    fp8_layer l;
    draw(&r, &l);
    l.layer.setup.random = NULL;
    test_request one = draw_request(&r, &l, test_any_method(&r, l.layer.setup.shape.rotary_dim));
    test_request two = test_request_copy(&one, &l.layer.setup.shape);
    emulator_configure(NULL);
    test_attend(&l.layer.setup, &one, 1);
    emulator_configure(&options[round % 2]);
    test_attend(&l.layer.setup, &two, 1);
    test_requests_same(test_layer_describe(&l.layer, &one), &l.layer.setup.shape, &two, &one);
    test_request_free(&one);
    test_request_free(&two);
  }
}

/* All that e4m3 can hold, in rows of V: with one key a row of O is that row, and NaN is NaN. */
Test(fp8, every_code_of_a_value) {
  test_random r = test_random_start();
  static const int32_t dtypes[] = {SPINDLE_BF16, SPINDLE_F16};
  for (int x = 0; x < 4; x++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA,
                        .shape = {.q_dtype = dtypes[x % 2],
                                  .kv_dtype = SPINDLE_F8E4M3,
                                  .o_dtype = SPINDLE_F32,
                                  .num_q_heads = 1,
                                  .head_dim_qk = 64,
                                  .head_dim_v = 256}};
    test_request q = test_request_make(&r, &setup.shape, test_rule(SPINDLE_ROPE_DEFAULT, 64), x < 2 ? 1 : 17, 1, 1);
    for (int c = 0; c < 256; c++) {
      uint8_t code = (uint8_t)c;
      q.v[c] = test_load(SPINDLE_F8E4M3, &code);
    }
    q.q_index = 0;
    test_attend(&setup, &q, 1);
    for (int i = 0; i < q.q_len * 256; i++)
      cr_assert(isnan(q.v[i % 256]) ? isnan(q.o[i]) : fabsf(q.o[i] - q.v[i % 256]) <= 1e-6f * fabsf(q.v[i % 256]),
                "code %02x is %g, not %g", i % 256, (double)q.o[i], (double)q.v[i % 256]);
    test_request_free(&q);
  }
}

/* Expanding a tile touches all banks once, at every head dim. */
Test(fp8, banks_have_no_conflicts) {
  test_random r = test_random_start();
  static const int32_t dims[] = {64, 96, 128, 256};
  emulator_configure(&(emulator_options){.count_accesses = 1});
  for (int x = 0; x < 8; x++) {
    test_setup setup = {.backend = SPINDLE_BACKEND_CUDA,
                        .shape = {.q_dtype = SPINDLE_BF16,
                                  .kv_dtype = SPINDLE_F8E4M3,
                                  .num_q_heads = 1,
                                  .head_dim_qk = dims[x % 4],
                                  .key_state = SPINDLE_KEYS_ROTATED}};
    test_request q = test_request_make(&r, &setup.shape, test_rule(SPINDLE_ROPE_DEFAULT, dims[x % 4]), x < 4 ? 1 : 17, 128, 1);
    int counted = 0;
    emulator_forget();
    test_attend(&setup, &q, 1);
    for (int line = 1; line < 200; line++) {
      emulator_counters c = emulator_counters_of("kernels/e4m3.cuh", line);
      counted += c.wavefronts > 0;
      cr_assert_eq(c.wavefronts, c.ideal, "e4m3.cuh:%d, head dim %d: %llu wavefronts, %llu without conflicts", line, dims[x % 4],
                   (unsigned long long)c.wavefronts, (unsigned long long)c.ideal);
    }
    cr_assert_geq(counted, 3, "the load and the two stores of expand_e4m3");
    test_request_free(&q);
  }
}

/* ---- Append, then attention ---- */

enum { KEYS = 150, HEADS = 2, DIM = 64, SPACE = HEADS * DIM };

/* Rows of bf16 into the cache, per-head scales. */
static void append(spindle_context *context, const spindle_shape *shape, const spindle_attention_args *args, uint16_t *k,
                   uint16_t *v) {
  test_mirror m = test_mirror_open(context);
  int64_t slot[KEYS];
  for (int j = 0; j < KEYS; j++) slot[j] = j;
  spindle_append_args a = {.struct_size = sizeof a, .rows = KEYS, .page_size = KEYS, .num_pages = 1, .k = args->k, .v = args->v};
  a.k_new.data = test_mirror_in(&m, k, KEYS * SPACE * sizeof *k);
  a.v_new.data = test_mirror_in(&m, v, KEYS * SPACE * sizeof *v);
  a.slot = test_mirror_in(&m, slot, sizeof slot);
  test_ok(spindle_append(context, shape, NULL, &a, NULL));
  test_ok(spindle_stream_sync(context, NULL));
  test_mirror_close(&m);
}

static void attend(spindle_context *context, const spindle_shape *shape, spindle_attention_args *args, const test_request *q,
                   test_mirror *m) {
  spindle_plan_options options = {.struct_size = sizeof options, .max_requests = 1, .max_q_rows = q->q_len, .max_kv_len = KEYS};
  spindle_positions *positions;
  spindle_plan *plan;
  size_t state_bytes, scratch_bytes;
  void *state, *scratch;
  int32_t q_begin = 0, kv_len = KEYS;
  spindle_position p = q->position;
  p.struct_size = sizeof p;
  test_ok(spindle_positions_create(&positions, context, shape, 1));
  test_ok(spindle_positions_set(positions, 0, &p, NULL));
  test_ok(spindle_plan_create(&plan, context, shape, &options));
  test_ok(spindle_plan_workspace(plan, &state_bytes, &scratch_bytes));
  test_ok(spindle_malloc(context, &state, state_bytes));
  test_ok(spindle_malloc(context, &scratch, scratch_bytes));
  spindle_batch batch = {.struct_size = sizeof batch,
                         .max_requests = 1,
                         .q_begin = test_mirror_in(m, &q_begin, sizeof q_begin),
                         .q_len = test_mirror_in(m, &q->q_len, sizeof q->q_len),
                         .kv_len = test_mirror_in(m, &kv_len, sizeof kv_len)};
  args->scratch = scratch;
  args->scratch_bytes = scratch_bytes;
  test_ok(spindle_plan_prepare(plan, positions, &batch, state, state_bytes, NULL));
  test_ok(spindle_attention(plan, args, NULL));
  test_mirror_fetch(m, NULL);
  spindle_free(context, state);
  spindle_free(context, scratch);
  spindle_plan_destroy(plan);
  spindle_positions_destroy(positions);
}

/* Numbers as bf16, and what is left of them in the cache. */
static void quantize(float *x, uint16_t *from, const float *scale) {
  for (int i = 0; i < KEYS * SPACE; i++) {
    float s = scale[i / DIM % HEADS];
    test_store(SPINDLE_BF16, &from[i], x[i]);
    x[i] = test_round(SPINDLE_F8E4M3, test_load(SPINDLE_BF16, &from[i]) / s) * s;
  }
}

/* What append has written is what attention reads. */
static void check_round_trip(test_random *r, int32_t rows) {
  float k_scale[] = {0.5f, 2.0f}, v_scale[] = {4.0f, 0.25f};
  static uint16_t k_new[KEYS * SPACE], v_new[KEYS * SPACE], query[KEYS * SPACE];
  static float o[KEYS * SPACE];
  static uint8_t room[2][KEYS * SPACE];
  test_setup setup = {.backend = SPINDLE_BACKEND_CUDA,
                      .shape = {.q_dtype = SPINDLE_BF16,
                                .kv_dtype = SPINDLE_F8E4M3,
                                .o_dtype = SPINDLE_F32,
                                .num_q_heads = HEADS,
                                .head_dim_qk = DIM},
                      .args = {.k = {.scale = k_scale, .scale_head = 1}, .v = {.scale = v_scale, .scale_head = 1}}};
  spindle_context *context;
  spindle_context_options options = {.struct_size = sizeof options, .backend = SPINDLE_BACKEND_CUDA};
  spindle_shape shape = test_shape(setup.shape);
  test_request q = test_request_make(r, &shape, test_rule(SPINDLE_ROPE_YARN, DIM), rows, KEYS, 1);
  quantize(q.k, k_new, k_scale);
  quantize(q.v, v_new, v_scale);
  for (int i = 0; i < rows * SPACE; i++) test_store(SPINDLE_BF16, &query[i], q.q[i]);
  test_attend(&setup, &q, 1);

  test_ok(spindle_context_create(&context, &options));
  test_mirror m = test_mirror_open(context);
  spindle_attention_args args = {.struct_size = sizeof args, .q_rows = rows};
  args.k = (spindle_cache){.data = test_mirror_out(&m, room[0], sizeof room[0]), .scale_head = 1};
  args.v = (spindle_cache){.data = test_mirror_out(&m, room[1], sizeof room[1]), .scale_head = 1};
  args.k.scale = test_mirror_in(&m, k_scale, sizeof k_scale);
  args.v.scale = test_mirror_in(&m, v_scale, sizeof v_scale);
  args.q.data = test_mirror_in(&m, query, (size_t)(rows * SPACE) * sizeof *query);
  args.o.data = test_mirror_out(&m, o, (size_t)(rows * SPACE) * sizeof *o);
  append(context, &shape, &args, k_new, v_new);
  attend(context, &shape, &args, &q, &m);
  test_mirror_close(&m);
  spindle_context_destroy(context);
  test_same_bits("O", o, q.o, rows * SPACE);
  test_request_free(&q);
}

Test(fp8, append_then_attention) {
  test_random r = test_random_start();
  check_round_trip(&r, 1);
  check_round_trip(&r, 30);
}
